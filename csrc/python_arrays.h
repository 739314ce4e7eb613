// NumPy arrays as both bindings read them: C-contiguous and of the stated type, unless a comment says otherwise.
#pragma once
#include <pybind11/numpy.h>

#include <optional>

#include "encode.h"
#include "source.h"

namespace py = pybind11;
template <class T>
using Array = py::array_t<T, py::array::c_style>;
template <class T>
using Maybe = std::optional<Array<T>>;

template <class T>
const T* data_or_null(const Maybe<T>& array) {
  return array ? array->data() : nullptr;
}

// Arrays [rows, d] of any stride; uint16 holds bfloat16. The caller keeps them alive.
inline Source as_source(const py::list& parts, int64_t d) {
  Source source{0, d, {}};
  for (const py::handle& handle : parts) {
    const auto part = py::cast<py::array>(handle);
    const char kind = part.dtype().kind();
    const Type type = kind == 'u' ? Type::bfloat16
                      : part.itemsize() == 2 ? Type::float16
                      : part.itemsize() == 4 ? Type::float32 : Type::float64;
    source.parts.push_back({static_cast<const char*>(part.data()), type, source.n, part.shape(0), part.strides(0),
                            part.strides(1)});
    source.n += part.shape(0);
  }
  return source;
}

inline Codebook as_book(const Array<float>& centre, const Array<float>& sign, float gain) {
  return {{centre.data(), centre.data() + centre.size()}, {sign.data(), sign.data() + sign.size()}, gain};
}

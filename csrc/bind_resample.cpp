// The Python face of resample.h. Decoding processes call it, which have no NumPy: a picture comes by the Arrow C data
// interface (https://arrow.apache.org/docs/format/CDataInterface.html), by which Pillow hands its own memory out.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "resample.h"

namespace py = pybind11;

namespace {

struct ArrowArray {  // as that page lays it down
  int64_t length, null_count, offset, n_buffers, n_children;
  const void** buffers;
  ArrowArray** children;
  ArrowArray* dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};

using Pair = std::pair<int64_t, int64_t>;  // across, down

// The bytes of a fixed-size list of four a pixel.
const uint8_t* pixels_of(const py::handle& capsule, const Pair& size) {
  const auto* array = static_cast<const ArrowArray*>(PyCapsule_GetPointer(capsule.ptr(), "arrow_array"));
  if (!array) throw py::error_already_set();
  const int64_t n = size.first * size.second;
  const bool nested = array->release && array->n_children == 1 && array->offset == 0 && array->length == n;
  const ArrowArray* bytes = nested ? array->children[0] : nullptr;
  if (!bytes || bytes->n_buffers != 2 || bytes->offset != 0 || bytes->length != 4 * n || !bytes->buffers[1])
    throw py::value_error("the picture must be four bytes a pixel, in one piece");
  return static_cast<const uint8_t*>(bytes->buffers[1]);
}

const Weighing& pick_weighing(const std::string& name) {
  for (const Weighing* weighing : usable_weighings())
    if (name.empty() || name == weighing->name) return *weighing;
  throw py::value_error("this processor has no instruction set '" + name + "'");
}

py::bytes resample_(const py::capsule& picture, const Pair& size, const Pair& full, const Pair& corner,
                    const Pair& part, bool cubic, const std::string& instruction_set) {
  const bool inside = corner.first >= 0 && corner.second >= 0 && part.first > 0 && part.second > 0 &&
                      corner.first + part.first <= full.first && corner.second + part.second <= full.second;
  if (size.first < 1 || size.second < 1 || !inside) throw py::value_error("the part must lie in the scaled picture");
  const Picture from{pixels_of(picture, size), size.first, size.second};
  const Wanted wanted{full.first, full.second, corner.first, corner.second, part.first, part.second, cubic};
  const auto out = py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, 3 * part.first * part.second));
  if (!out) throw py::error_already_set();
  resample(pick_weighing(instruction_set), from, wanted, reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(out.ptr())));
  return out;
}

}  // namespace

void bind_resample(py::module_& m) {
  m.def("resample", &resample_, py::arg("picture"), py::arg("size"), py::arg("full"), py::arg("corner"),
        py::arg("part"), py::arg("cubic"), py::arg("instruction_set") = "");
  m.def("resample_instruction_sets", [] {
    std::vector<std::string> names;
    for (const Weighing* weighing : usable_weighings()) names.push_back(weighing->name);
    return names;
  });
}

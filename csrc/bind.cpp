// The Python face of the C++ core. Arrays arrive checked (clipscan/engine): C-contiguous, of the stated type.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "density.h"
#include "knn.h"
#include "rows.h"
#include "tile.h"

namespace py = pybind11;
template <class T>
using Array = py::array_t<T, py::array::c_style>;
template <class T>
using Maybe = std::optional<Array<T>>;

namespace {

Rows as_rows(const Array<float>& x, int threads) { return {x.data(), x.shape(0), x.shape(1), threads}; }

template <class T>
const T* data_or_null(const Maybe<T>& array) {
  return array ? array->data() : nullptr;
}

// The fastest, or the one that is named (tests run them all).
const TileKernel& pick_tile(const std::string& name) {
  for (const TileKernel* tile : usable_tiles())
    if (name.empty() || name == tile->name) return *tile;
  throw py::value_error("this processor has no instruction set '" + name + "'");
}

py::tuple knn_(const Array<float>& queries, const Array<float>& reference, int64_t k, const Maybe<int64_t>& query_id,
               const Maybe<int64_t>& reference_id, int threads, const std::string& instruction_set) {
  const TileKernel& tile = pick_tile(instruction_set);
  const int64_t n = queries.shape(0);
  Array<float> distance({n, k});
  Array<int64_t> index({n, k});
  const KnnTask task{queries.data(),      reference.data(),      data_or_null(query_id), data_or_null(reference_id),
                     n,                   reference.shape(0),    queries.shape(1),       k,
                     threads,             distance.mutable_data(), index.mutable_data()};
  {
    py::gil_scoped_release release;
    knn(task, tile);
  }
  return py::make_tuple(distance, index);
}

py::dict density_(const Array<float>& distance, const Array<int64_t>& index, const Maybe<double>& kdist,
                  const Maybe<double>& lid, const Maybe<double>& lrd, int threads) {
  const int64_t n = distance.shape(0), k = distance.shape(1);
  py::dict out;
  auto column = [&](const char* name) {
    Array<double> values(n);
    out[name] = values;
    return values.mutable_data();
  };
  const DensityTask task{distance.data(), index.data(), n, k, threads,
                         {column("kdist"), column("lid"), column("lid_mom"), column("lrd")}};
  const RatioScores scores{column("lof"), column("slof"), column("dao"), column("logdao")};
  // Without a given reference the table's rows are their own.
  auto pick = [](const Maybe<double>& given, double* own) { return given ? const_cast<double*>(given->data()) : own; };
  const RowDensity reference{pick(kdist, task.row.kdist), pick(lid, task.row.lid), nullptr, pick(lrd, task.row.lrd)};
  py::gil_scoped_release release;
  row_density(task);
  reachability(task, reference.kdist);
  ratios(task, reference, scores);
  return out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "C++ core of clipscan; see clipscan/engine for the checked interface.";
  m.def("knn", &knn_, py::arg("queries"), py::arg("reference"), py::arg("k"), py::arg("query_id") = py::none(),
        py::arg("reference_id") = py::none(), py::arg("threads") = 1, py::arg("instruction_set") = "");
  m.def("density", &density_, py::arg("distance"), py::arg("index"), py::arg("kdist") = py::none(),
        py::arg("lid") = py::none(), py::arg("lrd") = py::none(), py::arg("threads") = 1);
  m.def("bad_rows", [](const Array<float>& x, int threads) {
    Array<uint8_t> bad(x.shape(0));
    auto* out = bad.mutable_data();
    const Rows rows = as_rows(x, threads);
    py::gil_scoped_release release;
    find_bad_rows(rows, out);
    return bad;
  }, py::arg("rows"), py::arg("threads") = 1);
  m.def("hash_rows", [](const Array<float>& x, int threads) {
    Array<uint64_t> hash(x.shape(0));
    auto* out = hash.mutable_data();
    const Rows rows = as_rows(x, threads);
    py::gil_scoped_release release;
    hash_rows(rows, out);
    return hash;
  }, py::arg("rows"), py::arg("threads") = 1);
  m.def("mean_cosine", [](const Array<float>& a, const Array<float>& b, const Array<int64_t>& index, int threads) {
    Array<double> mean(a.shape(0));
    auto* out = mean.mutable_data();
    const Rows left = as_rows(a, threads), right = as_rows(b, threads);
    const int64_t k = index.shape(1);
    py::gil_scoped_release release;
    mean_cosine(left, right, index.data(), k, out);
    return mean;
  }, py::arg("a"), py::arg("b"), py::arg("index"), py::arg("threads") = 1);
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const TileKernel* tile : usable_tiles()) names.push_back(tile->name);
    return names;
  });
}

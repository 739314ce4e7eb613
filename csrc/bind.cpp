// The Python face of the C++ core. Arrays arrive checked (clipscan/engine): C-contiguous, of the stated type.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "amx.h"
#include "copies.h"
#include "density.h"
#include "interruptible.h"
#include "knn.h"
#include "parallel.h"
#include "python_arrays.h"
#include "rows.h"

namespace py = pybind11;

namespace {

Rows as_rows(const Array<float>& x, int threads) { return {x.data(), x.shape(0), x.shape(1), threads}; }

// The fastest, or the one that is named (tests run them all).
const Kernel& pick_kernel(const std::string& name) {
  if (name == kernel_amx_plain.name) return kernel_amx_plain;
  for (const Kernel* kernel : usable_kernels())
    if (name.empty() || name == kernel->name) return *kernel;
  throw py::value_error("this processor has no instruction set '" + name + "'");
}

py::tuple knn_between_(const py::list& queries, const py::list& reference, int64_t k, const Maybe<int64_t>& query_id,
                       const Maybe<int64_t>& reference_id, const std::vector<std::pair<int64_t, int64_t>>& spans,
                       const Array<float>& centre, const Array<float>& sign, float gain, int threads, int64_t memory,
                       const std::string& instruction_set) {
  const Kernel& kernel = pick_kernel(instruction_set);
  const Codebook book = as_book(centre, sign, gain);
  const Source from = as_source(queries, centre.size()), to = as_source(reference, centre.size());
  py::list tables;
  std::vector<Span> outputs;
  for (const auto& [begin, end] : spans) {
    Array<float> distance({from.n, k});
    Array<int64_t> index({from.n, k});
    outputs.push_back({begin, end, distance.mutable_data(), index.mutable_data()});
    tables.append(py::make_tuple(distance, index));
  }
  const Counts counts = interruptible([&](const std::atomic<bool>& stop) {
    return knn_between({&kernel, &book, k, threads, memory, &stop}, from, to, data_or_null(query_id),
                       data_or_null(reference_id), outputs);
  });
  return py::make_tuple(tables, counts.passed, counts.measured);
}

py::tuple knn_within_(const py::list& rows, int64_t k, const Array<float>& centre, const Array<float>& sign, float gain,
                      int threads, int64_t memory, const std::string& instruction_set) {
  const Kernel& kernel = pick_kernel(instruction_set);
  const Codebook book = as_book(centre, sign, gain);
  const Source source = as_source(rows, centre.size());
  Array<float> distance({source.n, k});
  Array<int64_t> index({source.n, k});
  float* const distances = distance.mutable_data();
  int64_t* const indices = index.mutable_data();
  const Counts counts = interruptible([&](const std::atomic<bool>& stop) {
    return knn_within({&kernel, &book, k, threads, memory, &stop}, source, distances, indices);
  });
  return py::make_tuple(distance, index, counts.passed, counts.measured);
}

// Codes [n, width] and error bounds [n] of rows, as the search makes them.
py::tuple encode_(const py::list& rows, const Array<float>& centre, const Array<float>& sign, float gain,
                  const std::string& instruction_set) {
  const Kernel& kernel = pick_kernel(instruction_set);
  const Codebook book = as_book(centre, sign, gain);
  const Source source = as_source(rows, centre.size());
  const Rotation rotation = book.rotation();
  Array<int8_t> codes({source.n, rotation.width});
  Array<float> error(source.n);
  std::vector<float> scratch(source.d), y(rotation.width + 32);
  std::vector<int8_t> code(rotation.width + 32);
  for (int64_t i = 0; i < source.n; ++i) {
    error.mutable_at(i) = kernel.encode(source.row(i, scratch.data(), kernel), rotation, y.data(), code.data());
    std::copy_n(code.data(), rotation.width, codes.mutable_data(i));
  }
  return py::make_tuple(codes, error);
}

// Giga-operations a second of one core on registers alone.
py::dict peak_(int threads, const std::string& instruction_set) {
  const Kernel& kernel = pick_kernel(instruction_set);
  auto rate = [&](int64_t (*spin)(int64_t)) {
    using Clock = std::chrono::steady_clock;
    constexpr int64_t ROUNDS = 1 << 12;
    constexpr std::chrono::milliseconds TRIAL(5);
    double best = 0;
    for (int trial = 0; trial < 5; ++trial) {
      std::atomic<int64_t> work{0};
      const auto start = Clock::now();
      parallel_for(threads, threads, [&](int64_t) {
        int64_t done = 0;
        do done += spin(ROUNDS); while (Clock::now() - start < TRIAL);
        work += done;
      });
      best = std::max(best, double(work) / std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best / threads / 1e9;
  };
  py::gil_scoped_release release;
  const double codes = rate(kernel.spin_codes), floats = rate(kernel.spin_floats);
  py::gil_scoped_acquire acquire;
  py::dict out;
  out["int8"] = codes, out["float32"] = floats;
  return out;
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

void bind_resample(py::module_&);

PYBIND11_MODULE(_core, m) {
  m.doc() = "C++ core of clipscan; see clipscan/engine for the checked interface.";
  m.def("knn_between", &knn_between_, py::arg("queries"), py::arg("reference"), py::arg("k"), py::arg("query_id"),
        py::arg("reference_id"), py::arg("spans"), py::arg("centre"), py::arg("sign"), py::arg("gain"),
        py::arg("threads"), py::arg("memory"), py::arg("instruction_set") = "");
  m.def("knn_within", &knn_within_, py::arg("rows"), py::arg("k"), py::arg("centre"), py::arg("sign"), py::arg("gain"),
        py::arg("threads"), py::arg("memory"), py::arg("instruction_set") = "");
  m.def("encode", &encode_, py::arg("rows"), py::arg("centre"), py::arg("sign"), py::arg("gain"),
        py::arg("instruction_set") = "");
  m.def("peak", &peak_, py::arg("threads") = 1, py::arg("instruction_set") = "");
  m.def("density", &density_, py::arg("distance"), py::arg("index"), py::arg("kdist") = py::none(),
        py::arg("lid") = py::none(), py::arg("lrd") = py::none(), py::arg("threads") = 1);
  m.def("bad_rows", [](const py::list& rows, int64_t d, int threads) {
    const Source source = as_source(rows, d);
    Array<uint8_t> bad(source.n);
    auto* out = bad.mutable_data();
    interruptible([&](const std::atomic<bool>& stop) { find_bad_rows(source, threads, stop, out); });
    return bad;
  }, py::arg("rows"), py::arg("d"), py::arg("threads") = 1);
  m.def("hash_rows", [](const py::list& rows, int64_t d, int threads) {
    const Source source = as_source(rows, d);
    Array<uint64_t> hash(source.n);
    auto* out = hash.mutable_data();
    interruptible([&](const std::atomic<bool>& stop) { hash_rows(source, threads, stop, out); });
    return hash;
  }, py::arg("rows"), py::arg("d"), py::arg("threads") = 1);
  m.def("expand_copies", [](const Array<float>& distance, const Array<int64_t>& index, const Array<uint32_t>& first_of,
                            int threads) {
    const int64_t n = first_of.shape(0), k = distance.shape(1);
    Array<float> all_distance({n, k});
    Array<int64_t> all_index({n, k});
    auto* to_distance = all_distance.mutable_data();
    auto* to_index = all_index.mutable_data();
    {
      py::gil_scoped_release release;
      const Copies copies({first_of.data(), size_t(n)});
      copies.expand(distance.data(), index.data(), k, to_distance, to_index, threads);
    }
    return py::make_tuple(all_distance, all_index);
  }, py::arg("distance"), py::arg("index"), py::arg("first_of"), py::arg("threads") = 1);
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
    for (const Kernel* kernel : usable_kernels()) names.push_back(kernel->name);
    return names;
  });
  bind_resample(m);
  m.def("why_not_amx", [] { return why_not_amx(); });
  m.def("why_not_amx_where", [](bool compiled, bool avx512, bool tile, bool int8, const std::function<int()>& permit) {
    return why_not_amx({compiled, avx512, tile, int8}, permit);
  }, py::arg("compiled"), py::arg("avx512"), py::arg("tile"), py::arg("int8"), py::arg("permit"));
}

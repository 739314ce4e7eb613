// The Python face of the CUDA engine. clipscan/engine/cuda.py checks what comes in and drives it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../interruptible.h"
#include "../python_arrays.h"
#include "arrays.h"
#include "search.h"

namespace py = pybind11;

namespace gpu {

void bind_timing(py::module_& m);  // timing.cpp

namespace {

// Rows with whatever keeps them alive.
struct Held {
  LoadedPtr rows;
  py::object keep;  // host arrays
  std::shared_ptr<std::vector<Borrowed>> borrowed;
};

// Rows on the host, or (capsules) on the device.
Input as_input(const py::list& host, const py::list& capsules, int64_t d, std::vector<Borrowed>& borrowed) {
  Input input{as_source(host, d), {}, 0, d};
  input.n = input.host.n;
  for (const py::handle& capsule : capsules) {
    borrowed.emplace_back(py::reinterpret_borrow<py::capsule>(capsule));
    const Part part = borrowed.back().part(input.n);
    if (!part.rows) continue;
    input.parts.push_back(part), input.n += part.rows;
  }
  return input;
}

Held load(const DevicePtr& device, const py::list& host, const py::list& capsules, const Array<float>& centre,
          const Array<float>& sign, float gain, int64_t room, int threads) {
  const Codebook book = as_book(centre, sign, gain);
  auto borrowed = std::make_shared<std::vector<Borrowed>>();
  const Input input = as_input(host, capsules, centre.size(), *borrowed);
  LoadedPtr rows = interruptible(
      [&](const StopFlag& stop) { return std::make_shared<const Loaded>(device, input, book, room, threads, stop); });
  return {rows, host, borrowed};
}

template <class T>
DeviceArray as_array(const DevicePtr& device, Buffer<T>&& buffer, int64_t n, int64_t k) {
  return DeviceArray(device, std::move(buffer), {n, k});
}

py::tuple as_tuple(const DevicePtr& device, Table&& table, int64_t n, int64_t k) {
  return py::make_tuple(as_array(device, std::move(table.distance), n, k), as_array(device, std::move(table.index), n, k));
}

SearchTask as_task(int64_t k, int64_t memory, int threads, bool wgmma, const StopFlag& stop) {
  return {k, memory, threads, &stop, wgmma};
}

py::tuple pairs(const Held& held, std::pair<int64_t, int64_t> a, std::pair<int64_t, int64_t> b, int64_t k,
                const Maybe<float>& limit_a, const Maybe<float>& limit_b, int64_t memory, int threads, bool wgmma) {
  const Loaded& rows = *held.rows;
  Counts counts;
  auto tables = interruptible([&](const StopFlag& stop) {
    return search_pairs(as_task(k, memory, threads, wgmma, stop), rows, {a.first, a.second}, {b.first, b.second},
                        data_or_null(limit_a), data_or_null(limit_b), counts);
  });
  py::object second = py::none();
  if (tables.second.distance) second = as_tuple(rows.device(), std::move(tables.second), b.second - b.first, k);
  return py::make_tuple(as_tuple(rows.device(), std::move(tables.first), a.second - a.first, k), second, counts.passed,
                        counts.measured);
}

py::tuple between(const Held& queries, const Held& reference, std::pair<int64_t, int64_t> block, int64_t k,
                  const Maybe<int64_t>& query_id, const Maybe<int64_t>& reference_id,
                  const std::vector<std::pair<int64_t, int64_t>>& spans, int64_t memory, int threads, bool wgmma) {
  std::vector<Range> ranges;
  for (const auto& [begin, end] : spans) ranges.push_back({begin, end});
  Counts counts;
  auto found = interruptible([&](const StopFlag& stop) {
    return search_between(as_task(k, memory, threads, wgmma, stop), *queries.rows, *reference.rows, {block.first, block.second},
                          data_or_null(query_id), data_or_null(reference_id), ranges, counts);
  });
  py::list tables;
  for (Table& table : found)
    tables.append(as_tuple(reference.rows->device(), std::move(table), block.second - block.first, k));
  return py::make_tuple(tables, counts.passed, counts.measured);
}

// Tables and columns on the host, or (given as capsules) on the device.
py::dict density_of(const DevicePtr& device, const py::object& distance, const py::object& index, int64_t n, int64_t k,
                    const Maybe<double>& kdist, const Maybe<double>& lid, const Maybe<double>& lrd) {
  std::vector<Borrowed> borrowed;
  Buffer<float> distances;
  Buffer<int64_t> indices;
  DensityTask task{};
  task.n = n, task.k = int(k);
  use(device->number);
  if (py::isinstance<py::capsule>(distance)) {
    borrowed.emplace_back(py::cast<py::capsule>(distance)), borrowed.emplace_back(py::cast<py::capsule>(index));
    task.distance = borrowed[0].dense<float>(), task.index = borrowed[1].dense<int64_t>();
  } else {
    distances = Buffer<float>(device, n * k), indices = Buffer<int64_t>(device, n * k);
    distances.upload(py::cast<Array<float>>(distance).data(), n * k);
    indices.upload(py::cast<Array<int64_t>>(index).data(), n * k);
    task.distance = distances.data(), task.index = indices.data();
  }
  constexpr const char* NAMES[] = {"kdist", "lid", "lid_mom", "lrd", "lof", "slof", "dao", "logdao"};
  double** const columns[] = {&task.kdist, &task.lid, &task.lid_mom, &task.lrd, &task.lof, &task.slof, &task.dao, &task.logdao};
  Buffer<double> values(device, 8 * n), reference[3];
  for (int c = 0; c < 8; ++c) *columns[c] = values.data() + c * n;
  const Maybe<double>* const given[] = {&kdist, &lid, &lrd};
  const double** const wanted[] = {&task.reference_kdist, &task.reference_lid, &task.reference_lrd};
  double* const own[] = {task.kdist, task.lid, task.lrd};
  for (int c = 0; c < 3; ++c) {
    *wanted[c] = own[c];  // without a reference the table's rows are their own
    if (!*given[c]) continue;
    reference[c] = Buffer<double>(device, (*given[c])->size());
    reference[c].upload((*given[c])->data(), (*given[c])->size());
    *wanted[c] = reference[c].data();
  }
  py::dict out;
  std::vector<double*> to;
  for (int c = 0; c < 8; ++c) {
    Array<double> column(n);
    to.push_back(column.mutable_data());
    out[NAMES[c]] = column;
  }
  {
    py::gil_scoped_release release;
    density(task, device->stream);
    for (int c = 0; c < 8; ++c) to_host(to[c], *columns[c], size_t(n) * sizeof(double), device->stream);
    synchronize(device->stream);
  }
  return out;
}

}  // namespace
}  // namespace gpu

#ifndef MODULE_NAME
#define MODULE_NAME _cuda
#endif

PYBIND11_MODULE(MODULE_NAME, m) {
  using namespace gpu;
  m.doc() = "The CUDA engine of clipscan; see clipscan/engine/cuda.py for the checked interface.";
  static py::exception<Error> error(m, "Error");
  static py::exception<OutOfMemory> out_of_memory(m, "OutOfMemory", error.ptr());
  py::register_local_exception_translator([](std::exception_ptr raised) {
    try {
      if (raised) std::rethrow_exception(raised);
    } catch (const OutOfMemory& it) {
      py::set_error(out_of_memory, it.what());
    } catch (const Error& it) {
      py::set_error(error, it.what());
    }
  });
  m.attr("MAX_K") = gpu::MAX_K;
  m.attr("MAX_WIDTH") = gpu::MAX_WIDTH;
  m.def("device_count", &device_count);
  m.def("capability", [](int device) {
    const Facts it = facts(device);
    return std::pair(it.major, it.minor);
  });
  m.def("identity", [](int device) {
    const Facts it = facts(device);
    return it.name + " " + it.uuid + ", CUDA " + std::to_string(driver_version());
  });

  // Local: tests load this module twice, for a real device and for a simulated one.
  py::class_<Device, DevicePtr>(m, "Device", py::module_local())
      .def(py::init<int>())
      .def_readonly("number", &Device::number)
      .def_property_readonly("name", [](const Device& d) { return d.facts.name; })
      .def_property_readonly("capability", [](const Device& d) { return std::pair(d.facts.major, d.facts.minor); })
      .def_property_readonly("stream", [](const Device& d) { return reinterpret_cast<uintptr_t>(d.stream); })
      .def("free_memory", [](const Device& d) {
        use(d.number);
        trim();
        return free_memory();
      });
  py::class_<DeviceArray>(m, "DeviceArray", py::module_local())
      .def_property_readonly("shape", [](const DeviceArray& a) { return py::tuple(py::cast(a.shape)); })
      .def_property_readonly("ndim", [](const DeviceArray& a) { return a.shape.size(); })
      .def("__dlpack__", [](const DeviceArray& a, const py::kwargs&) { return a.dlpack(); })
      .def("__dlpack_device__", &DeviceArray::where)
      .def("numpy", &DeviceArray::numpy);
  py::class_<Held>(m, "Loaded", py::module_local())
      .def_property_readonly("n", [](const Held& h) { return h.rows->n(); })
      .def_property_readonly("d", [](const Held& h) { return h.rows->d(); })
      .def_property_readonly("on_device", [](const Held& h) { return h.rows->on_device(); })
      .def("first_of", [](const Held& h, int threads) -> py::object {
        const auto first = interruptible([&](const StopFlag& stop) { return h.rows->first_of(threads, stop); });
        if (!first) return py::none();
        return Array<uint32_t>(py::ssize_t(first->size()), first->data());
      })
      .def("planes", [](const Held& h) {
        const Loaded::Planes it = h.rows->planes();
        const py::ssize_t padded = h.rows->codes().padded, chunks = h.rows->codes().chunks;
        return py::make_tuple(Array<int8_t>({chunks, padded, py::ssize_t(CHUNK)}, it.code.data()),
                              Array<int32_t>(py::ssize_t(it.norm.size()), it.norm.data()),
                              Array<float>(py::ssize_t(it.error.size()), it.error.data()),
                              Array<float>(py::ssize_t(it.tile_error.size()), it.tile_error.data()));
      })
      .def("select", [](const Held& h, const Array<uint32_t>& positions) {
        const std::vector<uint32_t> which(positions.data(), positions.data() + positions.size());
        return Held{std::make_shared<const Loaded>(h.rows, which), h.keep, h.borrowed};
      });
  m.def("load", &load, py::arg("device"), py::arg("host"), py::arg("capsules"), py::arg("centre"), py::arg("sign"),
        py::arg("gain"), py::arg("room"), py::arg("threads"));
  m.def("hash_rows", [](const DevicePtr& device, const py::list& capsules, int64_t d) {
    std::vector<Borrowed> borrowed;
    const Input input = as_input(py::list(), capsules, d, borrowed);
    const auto hash = interruptible([&](const StopFlag&) { return hash_rows(device, input); });
    return Array<uint64_t>(py::ssize_t(hash.size()), hash.data());
  }, py::arg("device"), py::arg("capsules"), py::arg("d"));
  m.def("least_row_memory", &least_row_memory, py::arg("k"));
  m.def("pairs", &pairs, py::arg("rows"), py::arg("a"), py::arg("b"), py::arg("k"), py::arg("limit_a"), py::arg("limit_b"),
        py::arg("memory"), py::arg("threads"), py::arg("wgmma"));
  m.def("between", &between, py::arg("queries"), py::arg("reference"), py::arg("block"), py::arg("k"), py::arg("query_id"),
        py::arg("reference_id"), py::arg("spans"), py::arg("memory"), py::arg("threads"), py::arg("wgmma"));
  m.def("density", &density_of, py::arg("device"), py::arg("distance"), py::arg("index"), py::arg("n"), py::arg("k"),
        py::arg("kdist"), py::arg("lid"), py::arg("lrd"));
  bind_timing(m);
}

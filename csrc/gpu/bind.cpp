// The Python face of the CUDA engine. clipscan/engine/cuda.py checks what comes in and drives it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../python_arrays.h"
#include "arrays.h"
#include "on_device.h"
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
  auto borrowed = std::make_shared<std::vector<Borrowed>>();
  const Input input = as_input(host, capsules, centre.size(), *borrowed);
  LoadedPtr rows = on_device(device, [=, book = as_book(centre, sign, gain), keep = std::pair(host, borrowed)](const StopFlag& stop) {
    return std::make_shared<const Loaded>(device, input, book, room, threads, stop);
  });
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
  const DevicePtr device = held.rows->device();
  auto [tables, counts] = on_device(device, [=](const StopFlag& stop) {
    Counts counts;
    auto tables = search_pairs(as_task(k, memory, threads, wgmma, stop), *held.rows, {a.first, a.second}, {b.first, b.second},
                               data_or_null(limit_a), data_or_null(limit_b), counts);
    return std::pair(std::move(tables), counts);
  });
  py::object second = py::none();
  if (tables.second.distance) second = as_tuple(device, std::move(tables.second), b.second - b.first, k);
  return py::make_tuple(as_tuple(device, std::move(tables.first), a.second - a.first, k), second, counts.passed,
                        counts.measured);
}

py::tuple between(const Held& queries, const Held& reference, std::pair<int64_t, int64_t> block, int64_t k,
                  const Maybe<int64_t>& query_id, const Maybe<int64_t>& reference_id,
                  const std::vector<std::pair<int64_t, int64_t>>& spans, int64_t memory, int threads, bool wgmma) {
  std::vector<Range> ranges;
  for (const auto& [begin, end] : spans) ranges.push_back({begin, end});
  auto [found, counts] = on_device(reference.rows->device(), [=](const StopFlag& stop) {
    Counts counts;
    auto found = search_between(as_task(k, memory, threads, wgmma, stop), *queries.rows, *reference.rows, {block.first, block.second},
                                data_or_null(query_id), data_or_null(reference_id), ranges, counts);
    return std::pair(std::move(found), counts);
  });
  py::list tables;
  for (Table& table : found)
    tables.append(as_tuple(reference.rows->device(), std::move(table), block.second - block.first, k));
  return py::make_tuple(tables, counts.passed, counts.measured);
}

// A table on the host, or (given as capsules) on the device; columns on the host, or none.
struct DensityInput {
  Maybe<float> distance;
  Maybe<int64_t> index;
  Maybe<double> columns[3];  // kdist, lid, lrd of the reference's rows
  std::vector<Borrowed> borrowed;
};

void density_on(const DevicePtr& device, const DensityInput& input, int64_t n, int64_t k, const std::vector<double*>& to) {
  use(device->number);
  Buffer<float> distances;
  Buffer<int64_t> indices;
  DensityTask task{};
  task.n = n, task.k = int(k);
  if (!input.borrowed.empty()) {
    task.distance = input.borrowed[0].dense<float>(), task.index = input.borrowed[1].dense<int64_t>();
  } else {
    distances = Buffer<float>(device, n * k), indices = Buffer<int64_t>(device, n * k);
    distances.upload(input.distance->data(), n * k), indices.upload(input.index->data(), n * k);
    task.distance = distances.data(), task.index = indices.data();
  }
  double** const columns[] = {&task.kdist, &task.lid, &task.lid_mom, &task.lrd, &task.lof, &task.slof, &task.dao, &task.logdao};
  Buffer<double> values(device, 8 * n), reference[3];
  for (int c = 0; c < 8; ++c) *columns[c] = values.data() + c * n;
  const double** const wanted[] = {&task.reference_kdist, &task.reference_lid, &task.reference_lrd};
  double* const own[] = {task.kdist, task.lid, task.lrd};
  for (int c = 0; c < 3; ++c) {
    *wanted[c] = own[c];  // without a reference the table's rows are their own
    if (!input.columns[c]) continue;
    reference[c] = Buffer<double>(device, input.columns[c]->size());
    reference[c].upload(input.columns[c]->data(), input.columns[c]->size());
    *wanted[c] = reference[c].data();
  }
  density(task, device->stream);
  for (int c = 0; c < 8; ++c) device->download(to[c], *columns[c], size_t(n) * sizeof(double));
}

py::dict density_of(const DevicePtr& device, const py::object& distance, const py::object& index, int64_t n, int64_t k,
                    const Maybe<double>& kdist, const Maybe<double>& lid, const Maybe<double>& lrd) {
  const auto input = std::make_shared<DensityInput>(DensityInput{{}, {}, {kdist, lid, lrd}, {}});
  if (py::isinstance<py::capsule>(distance)) {
    input->borrowed.emplace_back(py::cast<py::capsule>(distance)), input->borrowed.emplace_back(py::cast<py::capsule>(index));
  } else {
    input->distance = py::cast<Array<float>>(distance), input->index = py::cast<Array<int64_t>>(index);
  }
  py::dict out;
  std::vector<double*> to;
  for (const char* name : {"kdist", "lid", "lid_mom", "lrd", "lof", "slof", "dao", "logdao"}) {
    Array<double> column(n);
    to.push_back(column.mutable_data());
    out[name] = column;
  }
  on_device(device, [=, keep = out](const StopFlag&) {
    density_on(device, *input, n, k, to);
    return true;
  });
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
    } catch (const Stopped&) {  // by Device.interrupt, from the thread that heard of it
      PyErr_SetNone(PyExc_KeyboardInterrupt);
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
      .def("interrupt", &Device::interrupt)
      .def("free_memory", [](const DevicePtr& device) {
        return on_device(device, [=](const StopFlag&) {
          use(device->number);
          trim();
          return free_memory();
        });
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
        const auto first = on_device(h.rows->device(), [=](const StopFlag& stop) { return h.rows->first_of(threads, stop); });
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
        const LoadedPtr some =
            on_device(h.rows->device(), [=](const StopFlag&) { return std::make_shared<const Loaded>(h.rows, which); });
        return Held{some, h.keep, h.borrowed};
      });
  m.def("load", &load, py::arg("device"), py::arg("host"), py::arg("capsules"), py::arg("centre"), py::arg("sign"),
        py::arg("gain"), py::arg("room"), py::arg("threads"));
  m.def("hash_rows", [](const DevicePtr& device, const py::list& capsules, int64_t d) {
    const auto borrowed = std::make_shared<std::vector<Borrowed>>();
    const Input input = as_input(py::list(), capsules, d, *borrowed);
    const auto hash = on_device(device, [=, keep = borrowed](const StopFlag&) { return hash_rows(device, input); });
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

// A call that works on a device: on a thread of its own, so that Ctrl-C can end it, and leave it where it does not end.
#pragma once
#include <pybind11/pybind11.h>

#include <chrono>
#include <future>
#include <optional>
#include <thread>

#include "memory.h"

namespace gpu {

inline bool on_main_thread() {
  const auto ident = pybind11::module_::import("threading").attr("main_thread")().attr("ident");
  return pybind11::cast<unsigned long>(ident) == PyThread_get_thread_ident();
}

// work(stop), which owns whatever it uses. The first Ctrl-C sets `stop` and waits, since work soon sees that; so does
// Device::interrupt from another thread. A second one leaves the thread behind, with all that it owns and the device: it is in
// a call of the driver that does not return.
template <class Work>
auto on_device(const DevicePtr& device, Work work) {
  namespace py = pybind11;
  using Result = decltype(work(device->stop));
  struct Job {
    Work work;
    DevicePtr device;
    std::promise<Result> result;
  };
  device->begin();
  const auto job = std::make_shared<Job>(Job{std::move(work), device, {}});
  auto result = job->result.get_future();
  std::thread worker([job] {
    try {
      job->result.set_value(job->work(job->device->stop));
    } catch (...) {
      job->result.set_exception(std::current_exception());
    }
  });

  std::optional<py::error_already_set> asked;
  const bool listens = on_main_thread();  // elsewhere Python tells nobody, and a thread that outlives it must not ask
  {
    py::gil_scoped_release release;
    while (result.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
      if (!listens) continue;
      py::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() == 0) continue;
      const bool again = asked.has_value();
      asked.emplace();  // takes the error
      device->stop = true;
      if (again) {
        device->left = true;
        worker.detach();
        new std::shared_ptr<Job>(job);  // never freed
        break;
      }
    }
  }
  if (worker.joinable()) worker.join();
  if (asked) throw std::move(*asked);
  return result.get();
}

}  // namespace gpu

// Long work that Ctrl-C can end.
#pragma once
#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <future>

// Runs work(stop) on another thread while this one looks out for Ctrl-C.
template <class Work>
auto interruptible(Work work) {
  std::atomic<bool> stop{false};
  auto result = std::async(std::launch::async, [&] { return work(stop); });
  bool asked = false;
  {
    pybind11::gil_scoped_release release;
    while (result.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
      pybind11::gil_scoped_acquire acquire;
      if (!asked && PyErr_CheckSignals() != 0) asked = stop = true;
    }
  }
  if (asked) throw pybind11::error_already_set();
  return result.get();
}

// Work shared among plain threads; no OpenMP, so nothing fights the runtime that torch brings along.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

// Calls body(i) once for every i in [0, count), from up to `threads` threads.
// The first exception stops the rest and is thrown again here.
template <class Body>
void parallel_for(int64_t count, int threads, Body body) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  auto work = [&] {
    try {
      for (int64_t i = next++; i < count; i = next++) body(i);
    } catch (...) {
      next = count;
      std::lock_guard<std::mutex> lock(guard);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  for (int t = 1; t < std::min<int64_t>(threads, count); ++t) helpers.emplace_back(work);
  work();
  for (auto& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

// The same for loops over rows: body(begin, end) on slices of `grain` rows.
template <class Body>
void parallel_rows(int64_t rows, int64_t grain, int threads, Body body) {
  parallel_for((rows + grain - 1) / grain, threads,
               [&](int64_t i) { body(i * grain, std::min(rows, (i + 1) * grain)); });
}

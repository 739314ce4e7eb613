// The simulated driver: what device.cpp, device_memory.cpp and device_streams.cpp share.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"

namespace gpu::driver {

struct Work {
  std::function<void()> run;
  bool ends = true;
};

struct StreamQueue {
  int device;
  std::deque<Work> work;
  int64_t put = 0, done = 0;
};

struct Allocation {
  size_t bytes;
  int device;  // -1: pinned, on the host
  bool released = false;  // but the stream has not come so far
};

struct Event {
  StreamQueue* queue;
  int64_t position;
  double time = 0;
};

// One lock for everything: kernels of two devices do not run at once, so an atomic need not be one.
inline std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;

// Never destroyed: what is still queued when the process ends is not run, and no leak.
inline auto& allocations = *new std::map<uintptr_t, Allocation>;  // by first byte
inline auto& queues = *new std::vector<std::unique_ptr<StreamQueue>>;
inline auto& orphans = *new std::vector<std::unique_ptr<StreamQueue>>;  // destroyed, but others may wait for what was put on them
inline std::vector<size_t> live(64, 0);  // bytes, by device
inline size_t pinned = 0;
inline int64_t launched = 0, endless = 0;
inline thread_local int current = 0;

// ---- device.cpp

int64_t number(const char* name, int64_t otherwise);  // of the environment
inline std::string size_in_words(size_t bytes) { return std::to_string(bytes) + " bytes"; }
[[noreturn]] void die(const std::string& words);
void call(const std::string& what);  // every call that can throw begins here
int capability();                    // the major half; no minor one matters
size_t memory_of_device();

// ---- device_streams.cpp

StreamQueue& queue_of(Stream stream);
void put(StreamQueue& queue, std::function<void()> work, bool ends = true);
void run_everything();

// ---- device_memory.cpp

void check_zones(uintptr_t first, const Allocation& allocation, const std::string& what);

}  // namespace gpu::driver

// device.h's second body: two devices in host memory. A stream is a queue of what was put on it, and nothing of it
// happens before somebody waits: who reads a result too early finds poison. (With CLIPSCAN_SIM_SEED, some of it does.)
#include "device.h"

#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "control.h"
#include "poison.h"
#include "sim.h"

namespace gpu {

namespace {

constexpr size_t ZONE = 256;  // bytes on either side of an allocation that nobody may write

struct Work {
  std::function<void()> run;
  bool ends = true;
};

struct Queue {
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
  Queue* queue;
  int64_t position;
  double time = 0;
};

// One lock for everything: kernels of two devices do not run at once, so an atomic need not be one.
std::recursive_mutex lock;
// Never destroyed: what is still queued when the process ends is not run, and no leak.
auto& allocations = *new std::map<uintptr_t, Allocation>;  // by first byte
auto& queues = *new std::vector<std::unique_ptr<Queue>>;
auto& orphans = *new std::vector<std::unique_ptr<Queue>>;  // destroyed, but others may wait for what was put on them
auto& default_queues = *new std::map<int, Queue>;
std::vector<size_t> live(64, 0);  // bytes, by device
size_t pinned = 0;
int64_t counted = 0, launched = 0, put_on = 0, endless = 0;
std::string failing, blocking;
uint64_t dice = 0x2545f4914f6cdd1dull;
thread_local int current = 0;

using Guard = std::lock_guard<std::recursive_mutex>;

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

int64_t number(const char* name, int64_t otherwise) {
  const char* value = setting(name);
  return value ? std::strtoll(value, nullptr, 10) : otherwise;
}

std::string size_in_words(size_t bytes) { return std::to_string(bytes) + " bytes"; }

[[noreturn]] void die(const std::string& words) {
  fflush(stdout);
  fprintf(stderr, "clipscan sim: %s\n", words.c_str());
  fflush(stderr);
  std::abort();
}

// Every call that can throw begins here.
void call(const std::string& what) {
  const auto chosen = [](const std::string& which) {
    const int64_t first = std::strtoll(which.c_str(), nullptr, 10);
    return !which.empty() && (which.back() == '+' ? counted >= first : counted == first);
  };
  const char *fails = setting("CLIPSCAN_SIM_FAIL"), *blocks = setting("CLIPSCAN_SIM_BLOCK");
  const std::string failing_now = fails ? fails : "", blocking_now = blocks ? blocks : "";
  if (failing_now != failing || blocking_now != blocking) failing = failing_now, blocking = blocking_now, counted = 0;
  ++counted;
  if (chosen(blocking)) {
    ++endless;
    lock.unlock();  // others go on
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  if (chosen(failing)) throw Error(what + ": simulated failure (call " + std::to_string(counted) + ")");
}

int devices() { return int(number("CLIPSCAN_SIM_DEVICES", 2)); }
size_t memory_of_device() { return size_t(number("CLIPSCAN_SIM_MEMORY", int64_t(1) << 30)); }

int capability() { return int(number("CLIPSCAN_SIM_CAPABILITY", 9)); }  // the major half; no minor one matters

void check_device(int device) {
  if (device < 0 || device >= devices()) throw Error("device " + std::to_string(device) + ": invalid device ordinal");
}

// ---- streams

Queue& queue_of(Stream stream) {
  if (stream) return *static_cast<Queue*>(stream);
  Queue& queue = default_queues[current];
  queue.device = current;
  return queue;
}

bool run_next(Queue& queue) {
  if (!queue.work.front().ends) return false;
  const auto work = std::move(queue.work.front().run);
  queue.work.pop_front();
  ++queue.done;
  work();
  return true;
}

// As a wait inside the driver, which nobody can end.
void run_until(Queue& queue, int64_t position) {
  while (queue.done < position)
    if (!run_next(queue)) die("a call waits inside the driver for a kernel that never ends");
}

void put(Queue& queue, std::function<void()> work, bool ends = true) {
  queue.work.push_back({std::move(work), ends});
  ++queue.put;
  if (number("CLIPSCAN_SIM_SEED", 0) == 0) return;
  dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
  if (dice >> 20 & 1)
    while (queue.done < queue.put && run_next(queue)) {
    }
}

void run_orphans() {
  for (auto& queue : orphans)
    while (queue->done < queue->put && run_next(*queue)) {
    }
}

void run_everything() {
  run_orphans();
  for (auto& queue : queues) run_until(*queue, queue->put);
  for (auto& [device, queue] : default_queues) run_until(queue, queue.put);
}

// ---- memory

// The allocation that holds, or touches with a zone of its own, some of these bytes; null if they are none of ours.
const Allocation* allocation_around(const void* memory, size_t bytes, uintptr_t* first) {
  const auto at = reinterpret_cast<uintptr_t>(memory);
  auto next = allocations.lower_bound(at + std::max<size_t>(bytes, 1) + ZONE);
  if (next == allocations.begin()) return nullptr;
  const auto& [start, allocation] = *--next;
  if (at >= start + allocation.bytes + ZONE) return nullptr;
  *first = start;
  return &allocation;
}

void check_range(const void* memory, size_t bytes, bool host, const std::string& what) {
  uintptr_t first = 0;
  const Allocation* allocation = allocation_around(memory, bytes, &first);
  if (!allocation) return;  // the caller's own, which stands in for either kind
  const auto at = reinterpret_cast<uintptr_t>(memory);
  if (at < first || at + bytes > first + allocation->bytes)
    die(what + ": bytes " + std::to_string(ptrdiff_t(at - first)) + " to " + std::to_string(ptrdiff_t(at + bytes - first)) +
        " of an allocation of " + size_in_words(allocation->bytes));
  if (allocation->released) die(what + ": the memory was released before");
  if (host && allocation->device >= 0) die(what + ": an address of a device where one of the host belongs");
}

bool is_pinned(const void* memory, size_t bytes) {
  uintptr_t first = 0;
  const Allocation* allocation = allocation_around(memory, bytes, &first);
  return allocation && allocation->device < 0;
}

void* new_memory(size_t bytes, int device) {
  const size_t whole = (ZONE + bytes + ZONE + 255) / 256 * 256;
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(256, whole));
  if (!memory) throw OutOfMemory("allocating " + size_in_words(bytes) + ": the host has no memory left");
  sim::poison(memory, whole);
  sim::hide(memory, ZONE);
  sim::hide(memory + ZONE + bytes, whole - ZONE - bytes);
  allocations[reinterpret_cast<uintptr_t>(memory + ZONE)] = {bytes, device};
  return memory + ZONE;
}

void check_zones(uintptr_t first, const Allocation& allocation, const std::string& what) {
#ifdef CLIPSCAN_SIM_ASAN
  (void)first, (void)allocation, (void)what;  // it watches them itself
#else
  const auto* memory = reinterpret_cast<const unsigned char*>(first);
  for (size_t i = 0; i < ZONE; ++i)
    if (memory[ptrdiff_t(i) - ptrdiff_t(ZONE)] != sim::poison_byte(i))
      die(what + ": wrote the byte " + std::to_string(ZONE - i) + " before an allocation of " + size_in_words(allocation.bytes));
  const size_t start = allocation.bytes;  // the pattern goes on from the front zone's first byte
  for (size_t i = 0; i < ZONE; ++i)
    if (memory[start + i] != sim::poison_byte(ZONE + start + i))
      die(what + ": wrote the byte " + std::to_string(i) + " past an allocation of " + size_in_words(allocation.bytes));
#endif
}

void delete_memory(void* memory) {
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
  check_zones(found->first, found->second, "somebody");
  auto* start = static_cast<unsigned char*>(memory) - ZONE;
  const size_t whole = (ZONE + found->second.bytes + ZONE + 255) / 256 * 256;
  sim::show(start, whole);
  sim::poison(start, whole);
  allocations.erase(found);
  std::free(start);
}

void mark_released(void* memory, bool host) {
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations.end()) die("releasing memory that was never allocated, or is released already");
  if (found->second.released) die("releasing memory twice");
  if ((found->second.device < 0) != host) die("releasing memory of the host as the device's, or the other way round");
  found->second.released = true;
  (host ? pinned : live[size_t(found->second.device)]) -= found->second.bytes;
}

// The driver may make a copy of pageable memory wait for the stream. Here it does so only where that would never end: what
// comes of it otherwise is for its caller to find out.
void wait_if_pageable(const Queue& queue, const void* host, size_t bytes, size_t staged) {
  if (bytes <= staged || is_pinned(host, bytes)) return;
  for (const Work& work : queue.work)
    if (!work.ends) die("copying pageable memory waits inside the driver for a kernel that never ends");
}

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int device_count() {
  Guard guard(lock);
  call("looking for CUDA devices");
  if (devices() == 0) throw Error("looking for CUDA devices: no CUDA-capable device is detected (cudaErrorNoDevice)");
  return devices();
}

Facts facts(int device) {
  Guard guard(lock);
  call("asking for the properties of device " + std::to_string(device));
  check_device(device);
  return {"simulated", capability(), 0, "number " + std::to_string(device)};
}

int driver_version() { return 0; }

void use(int device) {
  Guard guard(lock);
  call("choosing device " + std::to_string(device));
  check_device(device);
  current = device;
}

size_t free_memory() {
  Guard guard(lock);
  call("asking for free memory");
  const size_t used = live[size_t(current)], all = memory_of_device();
  return used < all ? all - used : 0;
}

Stream stream_create() {
  Guard guard(lock);
  call("creating a stream");
  run_orphans();
  queues.push_back(std::make_unique<Queue>());
  queues.back()->device = current;
  return queues.back().get();
}

void stream_destroy(Stream stream) {
  Guard guard(lock);
  for (size_t i = 0; i < queues.size(); ++i)
    if (queues[i].get() == stream) {
      orphans.push_back(std::move(queues[i]));
      queues.erase(queues.begin() + ptrdiff_t(i));
      return;
    }
  die("destroying a stream that does not exist");
}

void stream_wait(Stream stream, Stream other) {
  Guard guard(lock);
  call("waiting for the caller's stream");
  Queue& before = queue_of(other);
  if (before.device != current) throw Error("recording an event: the stream belongs to another device (invalid resource handle)");
  put(queue_of(stream), [&before, position = before.put] { run_until(before, position); });
}

bool idle(Stream stream) {
  Guard guard(lock);
  Queue& queue = queue_of(stream);
  if (queue.done < queue.put && !run_next(queue)) return false;
  if (queue.done < queue.put) return false;
  call("waiting for the device");
  run_orphans();
  return true;
}

void wait_for_everything() {
  Guard guard(lock);
  call("waiting for the device");
  for (auto* list : {&queues, &orphans})
    for (auto& queue : *list)
      if (queue->device == current) run_until(*queue, queue->put);
  Queue& queue = queue_of(nullptr);
  run_until(queue, queue.put);
}

void* allocate(size_t bytes, Stream stream) {
  Guard guard(lock);
  const std::string what = "allocating " + size_in_words(bytes);
  call(what);
  const auto device = size_t(queue_of(stream).device);
  bytes = std::max<size_t>(bytes, 16);
  if (bytes > memory_of_device() || live[device] > memory_of_device() - bytes)
    throw OutOfMemory(what + ": out of memory (cudaErrorMemoryAllocation), simulated; " + size_in_words(live[device]) + " are taken");
  void* memory = new_memory(bytes, int(device));
  live[device] += bytes;
  return memory;
}

void release(void* memory, Stream stream) {
  Guard guard(lock);
  if (!memory) return;
  mark_released(memory, false);
  put(queue_of(stream), [memory] { delete_memory(memory); });
}

void trim() {
  Guard guard(lock);
  call("giving memory back");
}

void* allocate_pinned(size_t bytes) {
  Guard guard(lock);
  call("allocating " + size_in_words(bytes) + " of pinned host memory");
  void* memory = new_memory(std::max<size_t>(bytes, 16), -1);
  pinned += std::max<size_t>(bytes, 16);
  return memory;
}

void release_pinned(void* memory) {
  Guard guard(lock);
  if (!memory) return;
  run_everything();  // as cudaFreeHost does
  mark_released(memory, true);
  delete_memory(memory);
}

void to_device(void* to, const void* from, size_t bytes, Stream stream) {
  Guard guard(lock);
  const std::string what = "copying " + size_in_words(bytes) + " to the device";
  call(what);
  check_range(to, bytes, false, what);
  check_range(from, bytes, true, what);
  wait_if_pageable(queue_of(stream), from, bytes, 64 << 10);
  if (is_pinned(from, bytes)) {  // read when the copy runs; other memory is read before the call returns
    put(queue_of(stream), [=] { std::memcpy(to, from, bytes); });
    return;
  }
  const auto* start = static_cast<const unsigned char*>(from);
  put(queue_of(stream), [to, copy = std::vector<unsigned char>(start, start + bytes)] {
    if (!copy.empty()) std::memcpy(to, copy.data(), copy.size());
  });
}

void to_host(void* to, const void* from, size_t bytes, Stream stream) {
  Guard guard(lock);
  const std::string what = "copying " + size_in_words(bytes) + " to the host";
  call(what);
  check_range(to, bytes, true, what);
  check_range(from, bytes, false, what);
  wait_if_pageable(queue_of(stream), to, bytes, 0);
  sim::poison(to, bytes);
  put(queue_of(stream), [=] { std::memcpy(to, from, bytes); });
}

void between_devices(void* to, const void* from, size_t bytes, Stream stream) {
  Guard guard(lock);
  const std::string what = "copying " + size_in_words(bytes) + " on the device";
  call(what);
  check_range(to, bytes, false, what);
  check_range(from, bytes, false, what);
  put(queue_of(stream), [=] { std::memmove(to, from, bytes); });
}

void fill(void* memory, uint8_t value, size_t bytes, Stream stream) {
  Guard guard(lock);
  const std::string what = "filling " + size_in_words(bytes);
  call(what);
  check_range(memory, bytes, false, what);
  put(queue_of(stream), [=] { std::memset(memory, value, bytes); });
}

namespace sim {

void launch_later(const char* name, int64_t blocks, int threads, size_t shared, Stream stream, int cluster,
                  std::function<void()> kernel) {
  Guard guard(lock);
  const std::string what = std::string("launching ") + name + " on " + std::to_string(blocks) + " blocks of " +
                           std::to_string(threads) + " threads with " + size_in_words(shared) + " of shared memory";
  call(what);
  const int major = capability();
  const size_t most = size_t(major >= 9 ? 227 : 163) << 10;
  Queue& queue = queue_of(stream);
  if (queue.device != current) throw Error(what + ": the stream belongs to another device (invalid resource handle)");
  if (blocks < 0 || blocks >= int64_t(1) << 31 || threads <= 0 || threads > 1024) throw Error(what + ": invalid configuration");
  if (threads % 32) die(what + ": the simulator knows whole warps only");
  if (shared > most) throw Error(what + ": invalid argument; a block has " + size_in_words(most));
  if (cluster > 1 && (major < 9 || cluster > 8 || blocks % cluster))
    throw Error(what + ", " + std::to_string(cluster) + " together: invalid configuration");
  const bool ends = ++put_on != number("CLIPSCAN_SIM_HANG", 0);
  endless += !ends;
  put(queue, [=, words = std::string(name)] {
    sim::run({words.c_str(), blocks, threads, shared, std::max(cluster, 1), major}, kernel);
    ++launched;
    for (const auto& [first, allocation] : allocations) check_zones(first, allocation, "kernel " + words);
  }, ends);
}

}  // namespace sim

void launch_kernel(const char* name, const void*, int64_t, int, size_t, Stream, int, void**) {
  die(std::string("launching ") + name + ": in the simulator, only through the template gpu::launch");
}

Mark mark(Stream stream) {
  Guard guard(lock);
  call("recording an event");
  Queue& queue = queue_of(stream);
  if (queue.device != current) throw Error("recording an event: the stream belongs to another device (invalid resource handle)");
  auto* event = new Event{&queue, queue.put + 1};
  put(queue, [event] { event->time = now(); });
  return {event};
}

float milliseconds(Mark from, Mark to) {
  Guard guard(lock);
  const std::unique_ptr<Event> first(static_cast<Event*>(from.event)), last(static_cast<Event*>(to.event));
  call("taking the time between two events");
  for (const Event* event : {last.get(), first.get()}) run_until(*event->queue, event->position);
  return float(last->time - first->time);
}

size_t live_bytes() {
  Guard guard(lock);
  size_t sum = 0;
  for (size_t bytes : live) sum += bytes;
  return sum;
}
size_t live_pinned_bytes() { return pinned; }
int live_streams() { return int(queues.size()); }
int64_t calls() { return counted; }
int64_t endless_calls() { return endless; }
int64_t launches() { return launched; }

}  // namespace gpu

size_t clipscan_sim_live_bytes() { return gpu::live_bytes(); }
size_t clipscan_sim_live_pinned_bytes() { return gpu::live_pinned_bytes(); }
int clipscan_sim_live_streams() { return gpu::live_streams(); }
int64_t clipscan_sim_calls() { return gpu::calls(); }
int64_t clipscan_sim_endless() { return gpu::endless_calls(); }
int64_t clipscan_sim_launches() { return gpu::launches(); }

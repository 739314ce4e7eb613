// Memory of the simulated devices and pinned memory: allocations between zones that are watched, and copies.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "poison.h"

namespace gpu {

namespace driver {

namespace {

constexpr size_t ZONE = 256;  // bytes on either side of an allocation that nobody may write

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

}  // namespace

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

namespace {

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
void wait_if_pageable(const StreamQueue& queue, const void* host, size_t bytes, size_t staged) {
  if (bytes <= staged || is_pinned(host, bytes)) return;
  for (const Work& work : queue.work)
    if (!work.ends) die("copying pageable memory waits inside the driver for a kernel that never ends");
}

}  // namespace

}  // namespace driver

using namespace driver;

size_t free_memory() {
  Guard guard(lock);
  call("asking for free memory");
  const size_t used = live[size_t(current)], all = memory_of_device();
  return used < all ? all - used : 0;
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

}  // namespace gpu

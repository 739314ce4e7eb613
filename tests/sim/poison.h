// What memory holds before anybody wrote to it, and while a copy is on its way: a pattern no result may contain.
// As float, and as double, it is NaN; as int8 it is -91, -91, -1, 127; as an index it lies out of every range.
// Under AddressSanitizer, memory in flight is hidden as well: touching it aborts on the spot.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define CLIPSCAN_SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CLIPSCAN_SIM_ASAN 1
#endif
#endif
#ifdef CLIPSCAN_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace gpu::sim {

constexpr uint32_t POISON = 0x7fffa5a5u;

inline uint8_t poison_byte(size_t at) { return uint8_t(POISON >> (8 * (at % 4))); }

inline void poison(void* memory, size_t bytes) {
  auto* at = static_cast<unsigned char*>(memory);
  size_t done = 0;
  for (; done + 4 <= bytes; done += 4) std::memcpy(at + done, &POISON, 4);
  for (; done < bytes; ++done) at[done] = poison_byte(done);
}

// The first byte that is no longer poison, or `bytes`.
inline size_t end_of_poison(const void* memory, size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(memory);
  size_t done = 0;
  for (uint32_t word; done + 4 <= bytes; done += 4) {
    std::memcpy(&word, at + done, 4);
    if (word != POISON) break;
  }
  while (done < bytes && at[done] == poison_byte(done)) ++done;
  return done;
}

inline void hide([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CLIPSCAN_SIM_ASAN
  __asan_poison_memory_region(memory, bytes);
#endif
}
inline void show([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CLIPSCAN_SIM_ASAN
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace gpu::sim

// gpu.cuh's second body: the same wrappers for a C++ compiler, so that kernels run on a CPU.
// Every thread of a block is a fiber (machine.h); whatever the hardware does later is done as late as it may be, and
// what has not happened yet reads as poison. What only a mistaken kernel does aborts, with the place in words.
// Numbers are the hardware's to the bit. What is not: see the end of machine.h's opening comment.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <source_location>
#include <tuple>
#include <type_traits>

#include "calls.h"
#include "cuda_spelling.h"
#include "device.h"
#include "poison.h"

#define GPU_SHARED_MEMORY(name) unsigned char* const name = ::gpu::sim::shared_memory()

namespace gpu {

constexpr uint32_t ALL_LANES = 0xffffffffu;

// ---- threads together

inline void sync_block(sim::Where where = sim::Where::current()) { sim::block_barrier(where); }
inline void sync_warp(sim::Where where = sim::Where::current()) {
  sim::meet(sim::Call::SYNC_WARP, nullptr, [](void* const*) {}, where);
}
inline uint32_t ballot(bool here, sim::Where where = sim::Where::current()) {
  uint32_t bit = here;
  sim::meet(sim::Call::BALLOT, &bit, [](void* const* lanes) {
    uint32_t all = 0;
    for (int i = 0; i < 32; ++i) all |= *static_cast<uint32_t*>(lanes[i]) << i;
    for (int i = 0; i < 32; ++i) *static_cast<uint32_t*>(lanes[i]) = all;
  }, where);
  return bit;
}

template <class T>
T shuffle(T value, int lane, sim::Where where = sim::Where::current()) {
  return sim::shuffle<T, false>(value, lane, where);
}
template <class T>
T shuffle_xor(T value, int mask, sim::Where where = sim::Where::current()) {
  return sim::shuffle<T, true>(value, mask, where);
}

inline void named_wait(int id, int threads, sim::Where where = sim::Where::current()) {
  sim::named_barrier(sim::Call::NAMED_WAIT, id, threads, where);
}
inline void named_arrive(int id, int threads, sim::Where where = sim::Where::current()) {
  sim::named_barrier(sim::Call::NAMED_ARRIVE, id, threads, where);
}

// ---- atomics: fibers share one OS thread, so plain operations are atomic

inline uint32_t atomic_add(uint32_t* at, uint32_t value) {
  sim::atomic_happens();
  const uint32_t old = *at;
  *at = old + value;
  return old;
}
inline unsigned long long atomic_add(unsigned long long* at, unsigned long long value) {
  sim::atomic_happens();
  const unsigned long long old = *at;
  *at = old + value;
  return old;
}
inline void atomic_min(uint32_t* at, uint32_t value) {
  sim::atomic_happens();
  *at = std::min(*at, value);
}
inline void atomic_max(uint32_t* at, uint32_t value) {
  sim::atomic_happens();
  *at = std::max(*at, value);
}
inline unsigned long long atomic_cas(unsigned long long* at, unsigned long long old, unsigned long long value) {
  sim::atomic_happens();
  const unsigned long long found = *at;
  if (found == old) *at = value;
  else sim::atomic_lost();
  return found;
}

// ---- arithmetic that is rounded as it says

inline float add_rn(float a, float b) { return sim::exactly(a + b); }
inline float sub_rn(float a, float b) { return sim::exactly(a - b); }
inline float mul_rn(float a, float b) { return sim::exactly(a * b); }
inline float sqrt_rn(float a) { return sim::exactly(std::sqrt(a)); }
inline float round_up(double a) {
  const float near = float(a);
  return double(near) < a ? std::nextafter(near, std::numeric_limits<float>::infinity()) : near;
}
inline float add_up(float a, float b) {
  const double sum = double(a) + double(b);  // rounded too: two floats may be 2^277 apart
  if (!std::isfinite(sum)) return float(sum);
  const double part = sum - double(a), left = (double(a) - (sum - part)) + (double(b) - part);  // Knuth: sum + left is exact
  const float up = round_up(sum);
  return double(up) == sum && left > 0 ? std::nextafter(up, std::numeric_limits<float>::infinity()) : up;
}
inline float mul_up(float a, float b) { return round_up(double(a) * double(b)); }  // 48 bits: exact
inline float bits_to_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t float_to_bits(float value) { return std::bit_cast<uint32_t>(value); }
inline float half_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent == 31) return fraction ? bits_to_float(0x7fffffffu) : bits_to_float(sign | 0x7f800000u);
  if (exponent) return bits_to_float(sign | (exponent + 112) << 23 | fraction << 13);
  return bits_to_float(sign | float_to_bits(float(fraction) * 0x1p-24f));
}
inline int first_bit(uint32_t bits) { return bits ? std::countr_zero(bits) : -1; }

// ---- copies that run on their own (sm_80)

inline uint32_t shared_address(const void* shared, sim::Where where = sim::Where::current()) {
  return sim::shared_address(shared, where);
}
inline void copy16_async(void* shared, const void* global, sim::Where where = sim::Where::current()) {
  sim::copy_async(shared, global, where);
}
inline void copy_commit() { sim::copy_commit(); }
template <int PENDING>
void copy_wait(sim::Where where = sim::Where::current()) { sim::copy_wait(PENDING, where); }

// ---- matrix units of sm_80

inline void load_matrices(uint32_t (&out)[4], const void* shared, sim::Where where = sim::Where::current()) {
  sim::load_matrices(out, shared, where);
}
inline void multiply_s8(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                        sim::Where where = sim::Where::current()) {
  sim::multiply_s8(sum, a, b0, b1, where);
}

// ---- barriers in shared memory and bulk copies (sm_90)

inline void barrier_init(uint64_t* barrier, uint32_t arrivals, sim::Where where = sim::Where::current()) {
  sim::barrier_init(barrier, arrivals, where);
}
inline void barrier_init_fence(sim::Where where = sim::Where::current()) { sim::barrier_init_fence(where); }
inline void barrier_arrive(uint64_t* barrier, sim::Where where = sim::Where::current()) {
  sim::barrier_arrive(sim::Call::BARRIER_ARRIVE, barrier, 0, -1, where);
}
inline void barrier_expect(uint64_t* barrier, uint32_t bytes, sim::Where where = sim::Where::current()) {
  sim::barrier_arrive(sim::Call::BARRIER_EXPECT, barrier, bytes, -1, where);
}
inline void barrier_wait(uint64_t* barrier, uint32_t parity, sim::Where where = sim::Where::current()) {
  sim::barrier_wait(barrier, parity, where);
}
inline void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier,
                      sim::Where where = sim::Where::current()) {
  sim::bulk_copy(sim::Call::BULK_COPY, shared, global, bytes, barrier, -1, where);
}

// ---- clusters (sm_90)

inline uint32_t cluster_rank(sim::Where where = sim::Where::current()) { return sim::cluster_rank(where); }
inline void cluster_sync(sim::Where where = sim::Where::current()) { sim::cluster_sync(where); }
inline void bulk_copy_to_all(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t mask,
                             sim::Where where = sim::Where::current()) {
  sim::bulk_copy(sim::Call::BULK_COPY_TO_ALL, shared, global, bytes, barrier, mask, where);
}
inline void barrier_arrive_at(uint64_t* barrier, uint32_t rank, sim::Where where = sim::Where::current()) {
  sim::barrier_arrive(sim::Call::BARRIER_ARRIVE_AT, barrier, 0, int(rank), where);
}

// ---- matrix units of sm_90

inline uint64_t matrix_descriptor(const void* shared, sim::Where where = sim::Where::current()) {
  constexpr uint64_t SWIZZLE_64 = 2ull << 62, STRIDE = uint64_t(512 >> 4) << 32, LEADING = 1ull << 16;
  return SWIZZLE_64 | STRIDE | LEADING | uint64_t((sim::shared_address(shared, where) & 0x3ffff) >> 4);
}
inline void multiply_fence(sim::Where where = sim::Where::current()) { sim::multiply_fence(where); }
inline void multiply_commit(sim::Where where = sim::Where::current()) { sim::multiply_commit(where); }
template <int PENDING>
void multiply_wait(sim::Where where = sim::Where::current()) { sim::multiply_wait(PENDING, nullptr, where); }
template <int N>
void multiply_finish(int32_t (&sum)[N], sim::Where where = sim::Where::current()) { sim::multiply_wait(0, sum, where); }
template <int COUNT>
void grow_registers(sim::Where where = sim::Where::current()) { sim::set_registers(COUNT, true, where); }
template <int COUNT>
void shrink_registers(sim::Where where = sim::Where::current()) { sim::set_registers(COUNT, false, where); }
inline void multiply_64x256(int32_t (&sum)[128], uint64_t a, uint64_t b, sim::Where where = sim::Where::current()) {
  sim::multiply_64x256(sum, a, b, where);
}

// ---- from the host

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared, Stream stream,
            int cluster, Arguments... arguments) {
  if (blocks == 0) return;
  std::tuple<Parameters...> values(arguments...);
  sim::launch_later(name, blocks, threads, shared, stream, cluster, [kernel, values] { std::apply(kernel, values); });
}

}  // namespace gpu

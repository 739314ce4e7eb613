// gpu.cuh's second body: the same wrappers for a C++ compiler, so that kernels run on a CPU.
// Every thread of a block is a fiber (sim.cpp); whatever the hardware does later is done as late as it may be, and
// what has not happened yet reads as poison. What only a mistaken kernel does aborts, with the place in words.
// Numbers are the hardware's to the bit. What is not: see the end of sim.cpp's opening comment.
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

#include "device.h"
#include "poison.h"

// ---- CUDA's own spelling

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)
#define __CUDA_ARCH_FEAT_SM90_ALL 1

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline uint3 threadIdx, blockIdx;  // of the fiber that runs; one kernel runs at a time (device.cpp)
inline dim3 blockDim, gridDim;

#define CLIPSCAN_VECTORS(type, name)                                                               \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                          \
  struct alignas(16) name##4 { type x, y, z, w; };                                                  \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                  \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
CLIPSCAN_VECTORS(int, int)
CLIPSCAN_VECTORS(unsigned, uint)
CLIPSCAN_VECTORS(float, float)
#undef CLIPSCAN_VECTORS
struct alignas(16) ulonglong2 {
  unsigned long long x, y;
};
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
struct alignas(16) longlong2 {
  long long x, y;
};
inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
struct alignas(16) double2 {
  double x, y;
};
inline double2 make_double2(double x, double y) { return {x, y}; }
struct alignas(4) char4 {
  signed char x, y, z, w;
};
inline char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return {x, y, z, w}; }

#define CLIPSCAN_MIN_MAX(type)                                    \
  inline type min(type a, type b) { return b < a ? b : a; }       \
  inline type max(type a, type b) { return a < b ? b : a; }
CLIPSCAN_MIN_MAX(int)
CLIPSCAN_MIN_MAX(unsigned)
CLIPSCAN_MIN_MAX(long)
CLIPSCAN_MIN_MAX(unsigned long)
CLIPSCAN_MIN_MAX(long long)
CLIPSCAN_MIN_MAX(unsigned long long)
#undef CLIPSCAN_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }  // the number, of a number and NaN
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

#define GPU_SHARED_MEMORY(name) unsigned char* const name = ::gpu::sim::shared_memory()

namespace gpu {

constexpr uint32_t ALL_LANES = 0xffffffffu;

// ---- what sim.cpp and device.cpp do for the wrappers

namespace sim {

// The place of a wrapper's call.
#ifdef __cpp_lib_source_location
using Where = std::source_location;
#else
struct Where {
  const char* file = "";
  unsigned at = 0;
  static constexpr Where current(const char* file = __builtin_FILE(), unsigned at = __builtin_LINE()) { return {file, at}; }
  const char* file_name() const { return file; }
  unsigned line() const { return at; }
  unsigned column() const { return 0; }
};
#endif

enum class Call : uint8_t {
  NONE, END, SYNC_BLOCK, SYNC_WARP, BALLOT, SHUFFLE, SHUFFLE_XOR, NAMED_WAIT, NAMED_ARRIVE, COPY_ASYNC, COPY_COMMIT, COPY_WAIT,
  LOAD_MATRICES, MULTIPLY_S8, BARRIER_INIT, BARRIER_FENCE, BARRIER_ARRIVE, BARRIER_EXPECT, BARRIER_WAIT, BULK_COPY,
  CLUSTER_RANK, CLUSTER_SYNC, BULK_COPY_TO_ALL, BARRIER_ARRIVE_AT, DESCRIPTOR, MULTIPLY_FENCE, MULTIPLY_COMMIT,
  MULTIPLY_WAIT, MULTIPLY_FINISH, REGISTERS, MULTIPLY_64X256, ATOMIC, ADDRESS
};

// All 32 lanes come together; the last to arrive does the work for everybody: lanes[i] is what lane i brought.
using Work = void (*)(void* const* lanes);
void meet(Call call, void* mine, Work work, const Where& where);

unsigned char* shared_memory();
uint32_t shared_address(const void* shared, const Where& where);
void block_barrier(const Where& where);
void named_barrier(Call call, int id, int threads, const Where& where);
void atomic_happens();  // a place where another thread may come in between
void atomic_lost();     // ... and must, lest a loop around it never ends
void copy_async(void* shared, const void* global, const Where& where);
void copy_commit();
void copy_wait(uint32_t pending, const Where& where);
void load_matrices(uint32_t* out, const void* shared, const Where& where);
void multiply_s8(int32_t* sum, const uint32_t* a, uint32_t b0, uint32_t b1, const Where& where);
void barrier_init(uint64_t* barrier, uint32_t arrivals, const Where& where);
void barrier_init_fence(const Where& where);
void barrier_arrive(Call call, uint64_t* barrier, uint32_t bytes, int rank, const Where& where);  // rank -1: own block
void barrier_wait(uint64_t* barrier, uint32_t parity, const Where& where);
void bulk_copy(Call call, void* shared, const void* global, uint32_t bytes, uint64_t* barrier, int mask, const Where& where);
uint32_t cluster_rank(const Where& where);
void cluster_sync(const Where& where);
void multiply_fence(const Where& where);
void multiply_commit(const Where& where);
void multiply_wait(int pending, int32_t* sum, const Where& where);  // sum: multiply_finish's, or null
void multiply_64x256(int32_t* sum, uint64_t a, uint64_t b, const Where& where);
void set_registers(int count, bool more, const Where& where);

// One grid, to its end. launch_later (device.cpp) puts that on a stream.
struct Grid {
  const char* name;
  int64_t blocks;
  int threads;
  size_t shared;
  int cluster;
  int major;  // of the device's capability
};
void run(const Grid& grid, const std::function<void()>& kernel);
void launch_later(const char* name, int64_t blocks, int threads, size_t shared, Stream stream, int cluster,
                  std::function<void()> kernel);

template <class T>
struct Shuffle {
  T value;
  int lane;
  T out;
};
template <class T, bool XOR>
void shuffle_work(void* const* lanes) {
  auto* const* at = reinterpret_cast<Shuffle<T>* const*>(lanes);
  for (int i = 0; i < 32; ++i) at[i]->out = at[(XOR ? i ^ at[i]->lane : at[i]->lane) & 31]->value;
}
template <class T, bool XOR>
T shuffle(T value, int lane, const Where& where) {
  static_assert(std::is_arithmetic_v<T>, "a register of 4 or 8 bytes");
  Shuffle<T> mine{value, lane, value};
  meet(XOR ? Call::SHUFFLE_XOR : Call::SHUFFLE, &mine, shuffle_work<T, XOR>, where);
  return mine.out;
}

// Keeps a compiler that may contract from making a * b + c one operation.
inline float exactly(float a) {
#if defined(__x86_64__)
  asm("" : "+x"(a));
#elif defined(__aarch64__)
  asm("" : "+w"(a));
#endif
  return a;
}

}  // namespace sim

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

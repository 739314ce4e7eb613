// What the wrappers of sim.h call: the parts of machine.h, and device_streams.cpp for launches.
#pragma once
#include <cstdint>
#include <functional>
#include <source_location>

#include "device.h"

namespace gpu {

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

// One grid, to its end. launch_later (device_streams.cpp) puts that on a stream.
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

}  // namespace gpu

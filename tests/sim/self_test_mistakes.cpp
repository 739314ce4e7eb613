// Mistakes of kernels, sm_80 and sm_90, one a kernel.
#include "self_test.h"

namespace gpu::self_test {

namespace {

template <class Kernel>
void run_mistaken(Kernel kernel, int threads = 64, size_t shared = 1024, int blocks = 1, int cluster = 1) {
  OnDevice on;
  auto* out = on.room<int32_t>(4096);
  launch("mistaken", kernel, blocks, threads, shared, on.stream, cluster, out);
  if (has_poison(on.read(out, size_t(threads)))) noticed();
}

__global__ void no_wait(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  copy16_async(memory + threadIdx.x * 16, out + threadIdx.x * 4);
  copy_commit();
  sync_block();
  out[threadIdx.x] = reinterpret_cast<int32_t*>(memory)[threadIdx.x * 4];
}
__global__ void no_sync(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  auto* const values = reinterpret_cast<int32_t*>(memory);
  values[threadIdx.x] = 7;
  out[threadIdx.x] = values[(threadIdx.x + 32) % 64];
}
__global__ void different_calls(int32_t* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = int32_t(ballot(true));
  else out[threadIdx.x] = shuffle(1, 0);
}
__global__ void different_ballots(int32_t* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = int32_t(ballot(true));
  else out[threadIdx.x] = int32_t(ballot(false));
}
__global__ void exited_lane(int32_t* out) {
  if (threadIdx.x == 40) return;
  out[threadIdx.x] = int32_t(ballot(true));
}
__global__ void exited_thread(int32_t*) {
  if (threadIdx.x >= 32) return;
  sync_block();
}
__global__ void deadlock(int32_t*) {
  if (threadIdx.x < 32) named_wait(1, 64);
  else named_wait(2, 64);
}
__global__ void arrives_twice(int32_t*) {
  if (threadIdx.x < 32) named_arrive(1, 96), named_arrive(1, 96);
  else if (threadIdx.x < 64) named_wait(1, 96);
}
__global__ void runs_ahead(int32_t* out) {  // seen only where the second warp falls far behind
  out[threadIdx.x] = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; threadIdx.x < 32 && i < 20; ++i) sync_warp();
    if (threadIdx.x < 32) named_arrive(1, 64);
    else named_wait(1, 64);
  }
}
__global__ void misaligned_load(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  uint32_t x[4];
  load_matrices(x, memory + threadIdx.x % 32 * 16 + 8);
  out[threadIdx.x] = int32_t(x[0]);
}
__global__ void load_outside(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  uint32_t x[4];
  load_matrices(x, memory + threadIdx.x * 32);
  out[threadIdx.x] = int32_t(x[0]);
}
__global__ void misaligned_source(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  copy16_async(memory + threadIdx.x * 16, out + threadIdx.x);
}
__global__ void written_in_flight(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  copy16_async(memory + threadIdx.x * 16, out + threadIdx.x * 4);
  copy_commit();
  reinterpret_cast<int32_t*>(memory)[threadIdx.x * 4] = 1;
  copy_wait<0>();
}
__global__ void past_shared(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  memory[1024 + threadIdx.x] = 1;
}
__global__ void past_allocation(int32_t* out) { out[4096 + threadIdx.x / 32] = 1; }
__global__ void read_past_allocation(int32_t* out) { out[threadIdx.x] = out[4096]; }
__global__ void too_deep(int32_t* out) {
  volatile char much[600 << 10];
  for (size_t i = 0; i < sizeof much; i += 64) much[sizeof much - 1 - i] = 1;
  out[threadIdx.x] = much[threadIdx.x];
}

struct Barriers {
  uint64_t* at;
  __device__ Barriers(unsigned char* memory, uint32_t arrivals, bool fence = true) : at(reinterpret_cast<uint64_t*>(memory + 512)) {
    if (threadIdx.x == 0) barrier_init(at, arrivals);
    if (threadIdx.x == 0 && fence) barrier_init_fence();
    sync_block();
  }
};
__global__ void bulk_without_wait(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 256), bulk_copy(memory, out, 256, barrier.at);
  sync_block();
  out[threadIdx.x] = reinterpret_cast<int32_t*>(memory)[threadIdx.x];
  sync_block();
  barrier_wait(barrier.at, 0);
}
__global__ void bulk_under_way(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 256), bulk_copy(memory, out, 256, barrier.at);
}
__global__ void bulk_not_expected(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 512), bulk_copy(memory, out, 256, barrier.at);
  barrier_wait(barrier.at, 0);
}
__global__ void bulk_of_odd_size(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) bulk_copy(memory, out, 24, barrier.at);
}
__global__ void bulk_outside(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) bulk_copy(memory + 1008, out, 32, barrier.at);
}
__global__ void bulk_written_in_flight(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 256), bulk_copy(memory, out, 256, barrier.at);
  sync_block();
  memory[threadIdx.x] = 1;
  barrier_wait(barrier.at, 0);
}
__global__ void no_init_fence(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 64, false);
  barrier_arrive(barrier.at);
}
__global__ void no_init(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  barrier_arrive(reinterpret_cast<uint64_t*>(memory));
}
__global__ void init_without_sync(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  if (threadIdx.x == 0) barrier_init(reinterpret_cast<uint64_t*>(memory), 64), barrier_init_fence();
  barrier_arrive(reinterpret_cast<uint64_t*>(memory));
}
__global__ void misaligned_barrier(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  barrier_arrive(reinterpret_cast<uint64_t*>(memory + 4));
}
__global__ void too_many_arrivals(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 2);
  if (threadIdx.x == 0) bulk_copy(memory, out, 16, barrier.at), barrier_expect(barrier.at, 32), barrier_arrive(barrier.at);
  sync_block();
  barrier_arrive(barrier.at);
}
__global__ void absent_block(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 64);
  cluster_sync();
  if (cluster_rank() == 1) return;
  for (int i = 0; i < 100; ++i) sync_block();
  barrier_arrive_at(barrier.at, 1);
}

// Of 384 threads, which start with 168 each: two warpgroups of three want more, and the third gives up too little, or nothing.
__global__ void registers_that_never_come(int32_t*) {
  if (threadIdx.x < 128) shrink_registers<64>();
  else grow_registers<224>();
}
__global__ void registers_not_given_up(int32_t*) {
  if (threadIdx.x >= 128) grow_registers<232>();
}

void hopper_call_on_ampere() {
  setenv("CLIPSCAN_SIM_CAPABILITY", "8.0", 1);
  run_mistaken(no_init);
}

}  // namespace

#define MISTAKEN(kernel, ...) {#kernel, [] { run_mistaken(kernel __VA_OPT__(,) __VA_ARGS__); }}
Cases kernel_mistakes() {
  return {MISTAKEN(no_wait), MISTAKEN(no_sync), MISTAKEN(different_calls), MISTAKEN(different_ballots),
          MISTAKEN(exited_lane), MISTAKEN(exited_thread), MISTAKEN(deadlock), MISTAKEN(arrives_twice, 96),
          MISTAKEN(misaligned_load), MISTAKEN(load_outside), MISTAKEN(misaligned_source), MISTAKEN(written_in_flight),
          MISTAKEN(past_shared), MISTAKEN(past_allocation), MISTAKEN(read_past_allocation), MISTAKEN(too_deep),
          MISTAKEN(bulk_without_wait), MISTAKEN(bulk_under_way), MISTAKEN(bulk_not_expected),
          MISTAKEN(bulk_of_odd_size), MISTAKEN(bulk_outside), MISTAKEN(bulk_written_in_flight),
          MISTAKEN(no_init_fence), MISTAKEN(no_init), MISTAKEN(init_without_sync), MISTAKEN(misaligned_barrier),
          MISTAKEN(too_many_arrivals), MISTAKEN(absent_block, 64, 1024, 2, 2),
          MISTAKEN(registers_that_never_come, 384), MISTAKEN(registers_not_given_up, 384), MISTAKEN(runs_ahead),
          {"hopper_call_on_ampere", hopper_call_on_ampere}};
}

}  // namespace gpu::self_test

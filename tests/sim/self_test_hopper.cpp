// sm_90: barriers and bulk copies, clusters, registers given up.
#include "self_test.h"

namespace gpu::self_test {

namespace {

constexpr int PIECE = 1024;  // bytes

// Warp 0 fetches pieces through a ring of four; warps 1 and 2 add one and write them out in turn.
__global__ void ring_kernel(const unsigned char* in, unsigned char* out, int pieces) {
  GPU_SHARED_MEMORY(memory);
  auto* const full = reinterpret_cast<uint64_t*>(memory + 4 * PIECE);
  auto* const empty = full + 4;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 4; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 32);
    barrier_init_fence();
  }
  sync_block();
  if (warp == 0) {
    for (int p = 0; p < pieces && lane == 0; ++p) {
      barrier_wait(empty + p % 4, uint32_t(p / 4 % 2) ^ 1);
      barrier_expect(full + p % 4, PIECE);
      bulk_copy(memory + p % 4 * PIECE, in + p * PIECE, 256, full + p % 4);
      bulk_copy(memory + p % 4 * PIECE + 256, in + p * PIECE + 256, PIECE - 256, full + p % 4);
    }
    return;
  }
  for (int p = warp - 1; p < pieces; p += 2) {
    barrier_wait(full + p % 4, uint32_t(p / 4 % 2));
    for (int i = lane; i < PIECE; i += 32) out[p * PIECE + i] = static_cast<unsigned char>(memory[p % 4 * PIECE + i] + 1);
    barrier_arrive(empty + p % 4);
  }
}

void rings() {
  for (int pieces : {1, 4, 5, 23}) {
    OnDevice on;
    const auto in = random_values<unsigned char>(size_t(pieces * PIECE));
    auto* out = on.room<unsigned char>(in.size());
    launch("ring", ring_kernel, 1, 96, 4 * PIECE + 64, on.stream, 1, static_cast<const unsigned char*>(on.copy(in)), out, pieces);
    const auto result = on.read(out, in.size());
    for (size_t i = 0; i < in.size(); ++i) CHECK(result[i] == static_cast<unsigned char>(in[i] + 1));
  }
}

// Block 0 of each pair fetches for both; block 1 tells it when its copy is used up.
__global__ void cluster_kernel(const int* in, int* out, int rounds) {
  GPU_SHARED_MEMORY(memory);
  auto* const values = reinterpret_cast<int*>(memory);
  auto* const full = reinterpret_cast<uint64_t*>(memory + 256);
  auto* const empty = full + 1;
  const uint32_t rank = cluster_rank();
  const int thread = int(threadIdx.x), pair = int(blockIdx.x) / 2;
  if (thread == 0) barrier_init(full, 1), barrier_init(empty, 128), barrier_init_fence();
  cluster_sync();
  for (int round = 0; round < rounds; ++round) {
    if (thread == 0) {
      barrier_expect(full, 256);
      if (rank == 0) {
        barrier_wait(empty, uint32_t(round % 2) ^ 1);
        bulk_copy_to_all(values, in + (pair * rounds + round) * 64, 256, full, 3);
      }
    }
    barrier_wait(full, uint32_t(round % 2));
    out[(int(blockIdx.x) * rounds + round) * 64 + thread] = values[thread] + int(rank);
    barrier_arrive_at(empty, 0);
  }
  cluster_sync();
}

// A warpgroup that wants registers waits for whoever gives them up, and all 504 of three threads may be shared out.
template <int FEW, int MANY>
__global__ void registers_kernel(int* out) {
  if (threadIdx.x >= 256) shrink_registers<FEW>();
  else grow_registers<MANY>();
  out[threadIdx.x] = 1;
}

void registers() {
  OnDevice on;
  int* out = on.room<int>(384);
  for (const auto kernel : {registers_kernel<40, 232>, registers_kernel<56, 224>, registers_kernel<24, 240>}) {
    fill(out, 0, 384 * sizeof(int), on.stream);
    launch("registers", kernel, 3, 384, 0, on.stream, 1, out);
    CHECK(on.read(out, 384) == std::vector<int>(384, 1));
  }
}

void clusters() {
  OnDevice on;
  const int blocks = 6, rounds = 5;
  const auto in = random_values<int>(blocks / 2 * rounds * 64);
  int* out = on.room<int>(blocks * rounds * 64);
  launch("cluster", cluster_kernel, blocks, 64, 256 + 16, on.stream, 2, static_cast<const int*>(on.copy(in)), out, rounds);
  const auto result = on.read(out, blocks * rounds * 64);
  for (int i = 0; i < blocks * rounds * 64; ++i) {
    const int block = i / (rounds * 64), rest = i % (rounds * 64);
    CHECK(result[size_t(i)] == int(unsigned(in[size_t(block / 2 * rounds * 64 + rest)]) + unsigned(block % 2)));
  }
}

}  // namespace

Cases hopper_tests() { return {{"rings", rings}, {"registers", registers}, {"clusters", clusters}}; }

}  // namespace gpu::self_test

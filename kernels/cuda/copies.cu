// Equal rows, found by a hash table of first rows: web data holds thousands of copies of one placeholder picture.
#include "rows.cuh"

namespace gpu {
namespace {

// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
__device__ inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

__device__ inline uint64_t rotate_left(uint64_t x, int by) { return x << by | x >> (64 - by); }

// csrc/rows.cpp:hash_row with salt 0, whose four chains four neighbouring threads run.
__global__ void hash_kernel(Rows rows, int64_t n, uint64_t* hash) {
  const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 4;
  const int lane = threadIdx.x % 4;
  const Row row = row_at(rows, i < n ? i : n - 1);
  uint64_t chain = 1 + lane;
  for (int p = lane; p < rows.d; p += 4)
    chain = rotate_left(chain ^ float_to_bits(add_rn(number(row, p), 0.0f)), 29) * 0x9e3779b97f4a7c15u + uint64_t(p);
  uint64_t all = 0;
#pragma unroll
  for (int l = 0; l < 4; ++l) all = mix(all ^ shuffle(chain, threadIdx.x % 32 / 4 * 4 + l));
  if (lane == 0 && i < n) hash[i] = all;
}

// A warp owns a row. Equal rows meet in one slot, which keeps the first of them.
__global__ void insert_kernel(CopiesTask t) {
  const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (i >= t.n) return;
  const int lane = threadIdx.x % 32;
  const Row row = row_at(t.rows, i);
  uint64_t hash = 0;
  for (int p = lane; p < t.rows.d; p += 32)
    hash += mix((uint64_t(p) << 32 | float_to_bits(add_rn(number(row, p), 0.0f))) ^ t.salt);  // -0 and 0 are equal
#pragma unroll
  for (int mask = 16; mask; mask /= 2) hash += shuffle_xor(hash, mask);
  if (lane) return;
  hash = mix(hash) | 1;  // 0 is an empty slot
  for (int64_t slot = int64_t(hash >> 1) & (t.slots - 1);; slot = (slot + 1) & (t.slots - 1)) {
    const unsigned long long found = atomic_cas(t.table + slot, 0ull, (unsigned long long)(hash));
    if (found != 0 && found != hash) continue;
    atomic_min(t.table_first + slot, uint32_t(i));
    t.slot[i] = uint32_t(slot);
    return;
  }
}

// Equal hashes are a hint; rows are then compared.
__global__ void compare_kernel(CopiesTask t) {
  const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (i >= t.n) return;
  const int lane = threadIdx.x % 32;
  const uint32_t candidate = t.table_first[t.slot[i]];
  bool same = candidate != i;
  if (same) {
    const Row a = row_at(t.rows, i), b = row_at(t.rows, candidate);
    for (int p = lane; p < t.rows.d; p += 32) same &= number(a, p) == number(b, p);
  }
  same = ballot(same) == ALL_LANES;
  if (lane) return;
  t.first[i] = same ? candidate : uint32_t(i);
  if (same) atomic_add(t.spare, 1u);
}

}  // namespace

void hash_rows(const Rows& rows, int64_t n, uint64_t* hash, Stream stream) {
  launch("hash_rows", hash_kernel, (n + 63) / 64, 256, 0, stream, 1, rows, n, hash);
}

void find_copies(const CopiesTask& task, Stream stream) {
  launch("find_copies insert", insert_kernel, (task.n + 7) / 8, 256, 0, stream, 1, task);
  launch("find_copies compare", compare_kernel, (task.n + 7) / 8, 256, 0, stream, 1, task);
}

}  // namespace gpu

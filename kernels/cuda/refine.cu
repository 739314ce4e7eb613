// Candidates -> limits, measured distances, the k nearest. What csrc/refine.cpp does for one row at a time.
//
// A block owns one row: its candidates are sorted in shared memory, so the k-th smallest bound is read off, and whoever is
// beyond the limit is a tail. Four threads measure a candidate together, each four of the sixteen sums.
#include "rows.cuh"

namespace gpu {
namespace {

__host__ __device__ inline int power_of_two(int x) {
  int p = 1;
  while (p < x) p *= 2;
  return p;
}

// Ascending, by all threads of the block. Bitonic, as for the next power of two with numbers above all others behind.
__device__ void sort(uint64_t* key, int count) {
  const int pairs = power_of_two(count) / 2;
  for (int stage = 0; 1 << stage < count; ++stage)
    for (int shift = stage; shift >= 0; --shift) {  // who is compared stands 1 << shift apart; no divisions, they are slow
      sync_block();
      for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        // The first step of a stage mirrors, the others shift: all comparisons then point upwards.
        const int inner = i & ((1 << shift) - 1), base = i >> shift << (shift + 1), low = base + inner;
        const int high = shift == stage ? base + (2 << shift) - 1 - inner : low + (1 << shift);
        if (high < count && key[low] > key[high]) {
          const uint64_t lower = key[high];
          key[high] = key[low], key[low] = lower;
        }
      }
    }
  sync_block();
}

__device__ float block_max(float value, float* scratch) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  sync_block();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  sync_block();
  for (int w = 0; w < int(blockDim.x) / 32; ++w) value = fmaxf(value, scratch[w]);
  return value;
}

__device__ inline float distance_of(uint64_t waiting) { return sqrt_rn(float(uint32_t(waiting >> 32))); }

// |x - y|^2 as csrc/kernel_measure.inl:measure4 sums it: sixteen lanes, squares rounded before they are added, then a tree. Called
// by whole warps; four neighbouring threads share a pair and all get its result.
template <int FAST>
__device__ float squared_distance(const Row& x, const Row& y, int d) {
  const int part = threadIdx.x % 4;
  float sum[4] = {0, 0, 0, 0};
#pragma unroll 4
  for (int p = part * 4; p < d; p += 16) {
    float a[4], b[4];
    four<FAST>(x, p, d, a), four<FAST>(y, p, d, b);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float difference = sub_rn(a[e], b[e]);
      sum[e] = add_rn(sum[e], mul_rn(difference, difference));
    }
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    sum[e] = add_rn(sum[e], shuffle_xor(sum[e], 2));  // lane l and l + 8
    sum[e] = add_rn(sum[e], shuffle_xor(sum[e], 1));  // and l + 4
  }
  return add_rn(add_rn(sum[0], sum[2]), add_rn(sum[1], sum[3]));
}

// Keys of the `count` candidates that `waiting` names, behind each other in `key`.
template <int FAST>
__device__ void measure(const RefineTask& t, const Row& query, const uint64_t* waiting, int count, uint64_t* key) {
  const int teams = blockDim.x / 4;
  for (int from = 0; from < count; from += teams) {
    const int c = from + threadIdx.x / 4;
    const uint32_t other = uint32_t(waiting[c < count ? c : count - 1]);
    const float squared = squared_distance<FAST>(query, row_at(t.reference, other), t.reference.d);
    if (c < count && threadIdx.x % 4 == 0) key[c] = uint64_t(float_to_bits(sqrt_rn(squared))) << 32 | other;
  }
}

// Drops the candidates beyond `reach` from the `count` sorted ones and returns how many are left, sorted. A candidate's own
// error decides, so the dropped are a tail nearly always: only where they are not, it is sorted again.
__device__ int keep(const RefineTask& t, uint64_t* waiting, int count, float reach, uint32_t* counter) {
  sync_block();
  if (threadIdx.x < 2) counter[threadIdx.x] = 0;  // how many are left; the end of the last one
  sync_block();
  for (int c = threadIdx.x; c < count; c += blockDim.x) {
    const uint64_t it = waiting[c];
    if (sub_rn(distance_of(it), t.reference_error[uint32_t(it)]) > reach) {
      waiting[c] = ~0ull;
    } else {
      atomic_add(counter, 1u);
      atomic_max(counter + 1, uint32_t(c + 1));
    }
  }
  sync_block();
  const int left = int(counter[0]);
  if (left < int(counter[1])) sort(waiting, count);
  return left;
}

__global__ void refine_kernel(RefineTask t) {
  GPU_SHARED_MEMORY(memory);
  float* const scratch = reinterpret_cast<float*>(memory);              // [32]
  uint32_t* const counter = reinterpret_cast<uint32_t*>(scratch + 32);  // [2]
  uint64_t* const waiting = reinterpret_cast<uint64_t*>(counter + 2);  // [capacity]
  uint64_t* const key = waiting + t.state.capacity;                   // [capacity + k]
  const State& s = t.state;
  const int64_t i = t.list ? t.list[blockIdx.x] : blockIdx.x, position = s.first + i;
  const uint32_t appended = s.count[i], known = s.kept[i];
  if (t.mode == Refine::tighten && appended == known) return;  // nothing new
  const bool overflowed = appended > uint32_t(s.capacity);
  const int count = overflowed ? s.capacity : int(appended), k = s.k;
  uint64_t* const stored = s.waiting + i * s.capacity;
  uint64_t* const best = s.best + i * k;
  const float own = t.query_error[position];
  float limit = s.limit[i];
  if (threadIdx.x == 0 && t.passed) atomic_add(t.passed, (unsigned long long)(appended - known));

  // Sort, and read off what the k nearest prove.
  for (int c = threadIdx.x; c < count; c += blockDim.x) waiting[c] = stored[c];
  sort(waiting, count);
  float upper = 0;
  for (int c = threadIdx.x; c < k && c < count; c += blockDim.x)
    upper = fmaxf(upper, add_rn(distance_of(waiting[c]), t.reference_error[uint32_t(waiting[c])]));
  upper = add_rn(block_max(upper, scratch), own);
  if (count >= k) limit = fminf(limit, add_up(mul_up(upper, t.units.bound_scale), t.units.bound_add));

  if (overflowed) {  // what came since the last refine is incomplete and will come again; what was known before is still there
    sync_block();
    for (int c = threadIdx.x; c < int(known); c += blockDim.x) waiting[c] = stored[c];
    sort(waiting, int(known));
    if (threadIdx.x == 0) t.overflowed[atomic_add(t.overflowed_count, 1u)] = uint32_t(i);
  }
  int left = keep(t, waiting, overflowed ? int(known) : count, add_up(limit, own), counter);

  // Measure: all to finish, some where too many wait, the k that look nearest to settle. These come first in any case: their
  // distances make the limit true, and fewer are left to be measured.
  int done = 0;
  for (bool nearest = true; left && (t.mode == Refine::finish || left > s.capacity / 2 || (t.mode == Refine::settle && nearest));
       nearest = false) {
    if (!t.measures) {
      if (threadIdx.x == 0) t.full[atomic_add(t.full_count, 1u)] = uint32_t(i);
      break;
    }
    const int now = nearest ? min(left, k) : left;
    const Row query = row_at(t.queries, position);
    if (t.reference.fast == 4 && t.queries.fast == 4) measure<4>(t, query, waiting + done, now, key);
    else if (t.reference.fast == 2 && t.queries.fast == 2) measure<2>(t, query, waiting + done, now, key);
    else measure<0>(t, query, waiting + done, now, key);
    if (threadIdx.x == 0 && t.measured) atomic_add(t.measured, (unsigned long long)(now));

    for (int c = threadIdx.x; c < k; c += blockDim.x) key[now + c] = best[c];
    sort(key, now + k);
    for (int c = threadIdx.x; c < k; c += blockDim.x) best[c] = key[c];
    if (key[k - 1] != NO_KEY) {
      const float kth = bits_to_float(uint32_t(key[k - 1] >> 32));
      limit = fminf(limit, add_up(mul_up(kth, t.units.distance_scale), t.units.distance_add));
    }
    done += now;
    left = keep(t, waiting + done, left - now, add_up(limit, own), counter);
  }
  for (int c = threadIdx.x; c < left; c += blockDim.x) stored[c] = waiting[done + c];
  if (threadIdx.x) return;
  s.limit[i] = limit;
  s.count[i] = s.kept[i] = uint32_t(left);
}

__global__ void reset_kernel(State s, const float* distance, Units units) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= s.n * s.k) return;
  s.best[at] = NO_KEY;
  if (at >= s.n) return;
  s.limit[at] = distance ? add_up(mul_up(distance[at], units.distance_scale), units.distance_add) : bits_to_float(0x7f800000u);
  s.count[at] = s.kept[at] = 0;
}

__global__ void restart_kernel(State s, const uint32_t* list, int64_t count) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count * s.k) return;
  const int64_t i = list[at / s.k];
  s.best[i * s.k + at % s.k] = NO_KEY;
  s.count[i] = s.kept[i] = 0;
}

__global__ void write_kernel(State s, int64_t origin, float* distance, int64_t* index) {
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= s.n * s.k) return;
  const uint64_t key = s.best[at];
  distance[at] = bits_to_float(uint32_t(key >> 32));
  index[at] = key == NO_KEY ? -1 : int64_t(uint32_t(key)) - origin;
}

}  // namespace

void refine(const RefineTask& task, Stream stream) {
  const int threads = task.state.capacity <= 512 ? 32 : task.state.capacity <= 1024 ? 64 : 256;
  launch("refine", refine_kernel, task.count, threads, 34 * 4 + (2 * task.state.capacity + task.state.k) * 8, stream, 1, task);
}

void reset(const State& state, const float* distance, const Units& units, Stream stream) {
  launch("reset", reset_kernel, (state.n * state.k + 255) / 256, 256, 0, stream, 1, state, distance, units);
}

void restart(const State& state, const uint32_t* list, int64_t count, Stream stream) {
  launch("restart", restart_kernel, (count * state.k + 255) / 256, 256, 0, stream, 1, state, list, count);
}

void write_table(const State& state, int64_t origin, float* distance, int64_t* index, Stream stream) {
  launch("write_table", write_kernel, (state.n * state.k + 255) / 256, 256, 0, stream, 1, state, origin, distance, index);
}

}  // namespace gpu

// What the two filter kernels share: which tiles a block visits, what a pair must reach, how sums start and who is noted down.
//
// With h = norm >> 1 a tile's sums start from -h_i - h_j, so that a sum ends at q_i.q_j - h_i - h_j, which is
// -|q_i - q_j|^2 / 2 (halves rounded down). The pair concerns row i where that is at least -reach_i, and column j where it
// is at least -reach_j: reach is half of a squared distance in code units, rounded up.
#pragma once
#include "gpu.cuh"
#include "kernels.h"

namespace gpu {

constexpr int GROUP = 16;   // neighbouring row tiles at work together: they share column tiles in L2

// The work of one block: row tile `row_tile` against steps [begin, end).
struct StepRun {
  int row_tile, begin, end;
};

// RUN tiles are visited one after the other by a block: its start-up is paid once for them.
template <int ROWS, int COLUMNS, int RUN>
struct FilterGrid {
  int64_t row0;  // where row tiles begin: with a column tile, so that both sides of a search among rows are cut alike
  int row_tiles, runs;  // row tiles in whole groups of a column tile's rows, which meet the same columns
  __host__ __device__ explicit FilterGrid(const FilterTask& t) {
    row0 = t.row_begin / COLUMNS * COLUMNS;
    row_tiles = int((t.row_end - row0 + COLUMNS - 1) / COLUMNS * (COLUMNS / ROWS));
    runs = (t.end_step - t.begin_step + RUN - 1) / RUN;
  }
  __host__ __device__ int64_t blocks() const { return int64_t(row_tiles + GROUP - 1) / GROUP * GROUP * runs; }
  // Empty (begin == end) for the blocks that fill up the last group.
  __device__ StepRun run(const FilterTask& t, int block) const {
    const int group = block / (GROUP * runs), within = block % (GROUP * runs);
    const int begin = t.begin_step + within / GROUP * RUN, tile = group * GROUP + within % GROUP;
    return {tile, begin, tile < row_tiles ? min(begin + RUN, t.end_step) : begin};
  }
};

// First column of the tile that row tile `tile` meets at a step; -1: none, the pair is met from the other side.
template <int ROWS, int COLUMNS>
__device__ inline int64_t column_of(const FilterTask& t, int tile, int step) {
  const int64_t first = t.column_begin / COLUMNS * COLUMNS;
  if (!t.cyclic) return first + int64_t(step) * COLUMNS;
  const int tiles = int((t.column_end - first + COLUMNS - 1) / COLUMNS), own = tile * ROWS / COLUMNS;
  if (t.self && 2 * step == tiles && own >= step) return -1;  // opposite tiles of a circle meet twice
  return first + int64_t((own + step) % tiles) * COLUMNS;
}

// Half of a squared reach, rounded up.
__device__ inline int32_t half_square(float reach) {
  const float half = add_up(mul_up(mul_up(reach, reach), 0.500001f), 2.0f);
  return half < float(ALWAYS) ? int32_t(half) : ALWAYS;
}

// A side's two numbers: the squared norm, and the reach against the other side's tile, whose errors do not exceed `error`.
struct TileLimits {
  int32_t *norm, *reach;  // in shared memory
};

// Row `row` of the codes is number `slot` of the tile; whoever is outside [begin, end) takes no part.
__device__ inline void set_limit(const TileLimits& out, int slot, const Codes& codes, const State& state, const uint32_t* which,
                                 int64_t row, int64_t begin, int64_t end, float error) {
  const bool here = row >= begin && row < end;
  out.norm[slot] = here ? codes.norm[row] : ABSENT;
  if (!here || !state.limit) {
    out.reach[slot] = -2;  // no distance is that small
    return;
  }
  const int64_t position = which ? which[row] : row;
  out.reach[slot] = half_square(add_up(add_up(state.limit[position - state.first], codes.error[row]), error));
}

__device__ inline float tile_error(const Codes& codes, int64_t row, int rows) {
  float error = 0;
  for (int64_t tile = row / TILE; tile <= (row + rows - 1) / TILE && tile < codes.padded / TILE; ++tile)
    error = fmaxf(error, codes.tile_error[tile]);
  return error;
}

__device__ inline void note(const State& state, int64_t position, int64_t other, uint32_t squared) {
  const int64_t i = position - state.first;
  const uint32_t slot = atomic_add(state.count + i, 1u);
  if (slot < uint32_t(state.capacity)) state.waiting[i * state.capacity + slot] = uint64_t(squared) << 32 | uint32_t(other);
}

// values[index]. Registers have no address: every index is compared.
template <int COUNT, class Values>
__device__ inline int32_t pick(Values values, int index) {
  int32_t out = 0;
#pragma unroll
  for (int i = 0; i < COUNT; ++i)
    if (i == index) out = values(i);
  return out;
}

// One pair whose sum reached a reach.
__device__ inline void take(const FilterTask& t, int64_t row, int64_t column, int32_t sum, int32_t row_reach,
                            int32_t column_reach, int32_t norms) {
  const int64_t i = t.which ? t.which[row] : row;
  if (t.self && i == column) return;
  if (t.row_id && t.row_id[i] == t.column_id[column]) return;
  const int32_t squared = -2 * sum + norms;  // norms: how many of the two are odd
  if (sum >= -row_reach) note(t.row, i, column, squared);
  if (sum >= -column_reach) note(t.column, column, i, squared);
}

// A warp's sums are DOWN x ACROSS blocks of 16 x 8, one row of blocks after the other. Of each a thread has four, as the matrix
// units leave them: rows lane / 4 and 8 more, columns lane % 4 * 2 and 1 more. sum(b, e) is number e of block b; `rows` and
// `columns` are the limits from the first row and column of the blocks on.

template <int DOWN, int ACROSS, class Sum>
__device__ inline void start_sums(Sum sum, const TileLimits& rows, const TileLimits& columns) {
  const int i0 = threadIdx.x % 32 / 4, j0 = threadIdx.x % 4 * 2;
#pragma unroll
  for (int m = 0; m < DOWN; ++m) {
    const int32_t upper = rows.norm[m * 16 + i0] >> 1, lower = rows.norm[m * 16 + i0 + 8] >> 1;
#pragma unroll
    for (int n = 0; n < ACROSS; ++n) {
      const int2 norms = *reinterpret_cast<const int2*>(columns.norm + n * 8 + j0);
      const int32_t left = norms.x >> 1, right = norms.y >> 1;
      const int b = m * ACROSS + n;
      sum(b, 0) = -upper - left, sum(b, 1) = -upper - right;
      sum(b, 2) = -lower - left, sum(b, 3) = -lower - right;
    }
  }
}

// Whether a pair may concern anybody: one comparison a sum, with the loosest of a thread's reaches. Most tiles end here.
template <int DOWN, int ACROSS, class Sum>
__device__ inline bool any_hit(Sum sum, const TileLimits& rows, const TileLimits& columns) {
  const int i0 = threadIdx.x % 32 / 4, j0 = threadIdx.x % 4 * 2;
  int32_t most = INT32_MIN, loosest = -2;
#pragma unroll
  for (int m = 0; m < DOWN; ++m) loosest = max(loosest, max(rows.reach[m * 16 + i0], rows.reach[m * 16 + i0 + 8]));
#pragma unroll
  for (int n = 0; n < ACROSS; ++n) {
    const int2 reaches = *reinterpret_cast<const int2*>(columns.reach + n * 8 + j0);
    loosest = max(loosest, max(reaches.x, reaches.y));
  }
#pragma unroll
  for (int b = 0; b < DOWN * ACROSS; ++b)
#pragma unroll
    for (int e = 0; e < 4; ++e) most = max(most, sum(b, e));
  return ballot(most >= -loosest);
}

// Notes down the pairs; the first row and column of the blocks are `row` and `column`.
template <int DOWN, int ACROSS, class Sum>
__device__ inline void note_hits(const FilterTask& t, Sum sum, const TileLimits& rows, const TileLimits& columns, int64_t row,
                                 int64_t column) {
  constexpr int BLOCKS = DOWN * ACROSS;
  static_assert(BLOCKS <= 32, "a hit is a bit");
  const int i0 = threadIdx.x % 32 / 4, j0 = threadIdx.x % 4 * 2;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int i1 = i0 + e / 2 * 8, j1 = j0 + e % 2;
    uint32_t hits = 0;
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b)
      hits |= uint32_t(sum(b, e) >= -max(rows.reach[b / ACROSS * 16 + i1], columns.reach[b % ACROSS * 8 + j1])) << b;
    for (; hits; hits &= hits - 1) {
      const int b = first_bit(hits), i = b / ACROSS * 16 + i1, j = b % ACROSS * 8 + j1;
      const int32_t value = pick<BLOCKS>([&](int b) { return sum(b, e); }, b);
      take(t, row + i, column + j, value, rows.reach[i], columns.reach[j], (rows.norm[i] & 1) + (columns.norm[j] & 1));
    }
  }
}

}  // namespace gpu

// What the two filter kernels share: which tiles a block visits, what a pair must reach, where it is noted down.
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
struct Run {
  int row_tile, begin, end;
};

// RUN tiles are visited one after the other by a block: its start-up is paid once for them.
template <int ROWS, int COLUMNS, int RUN>
struct Grid {
  int64_t row0;  // where row tiles begin: with a column tile, so that both sides of a search among rows are cut alike
  int row_tiles, runs;  // row tiles in whole groups of a column tile's rows, which meet the same columns
  __host__ __device__ explicit Grid(const FilterTask& t) {
    row0 = t.row_begin / COLUMNS * COLUMNS;
    row_tiles = int((t.row_end - row0 + COLUMNS - 1) / COLUMNS * (COLUMNS / ROWS));
    runs = (t.end_step - t.begin_step + RUN - 1) / RUN;
  }
  __host__ __device__ int64_t blocks() const { return int64_t(row_tiles + GROUP - 1) / GROUP * GROUP * runs; }
  // Empty (begin == end) for the blocks that fill up the last group.
  __device__ Run run(const FilterTask& t, int block) const {
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
struct Limits {
  int32_t *norm, *reach;  // in shared memory
};

// Row `row` of the codes is number `slot` of the tile; whoever is outside [begin, end) takes no part.
__device__ inline void set_limit(const Limits& out, int slot, const Codes& codes, const State& state, const uint32_t* which,
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

}  // namespace gpu

// The filter for sm_80 and every later GPU: mma.sync on int8, copies by cp.async.
//
// A block of (ROWS / 64) x (COLUMNS / 64) warps owns ROWS rows and walks a run of column tiles. Chunks of both sides stream
// through STAGES buffers in shared memory, across the borders of tiles, so that the copies never pause. A warp owns 64 x 64
// sums in registers. No n x m value is ever stored: what passes is noted down, the rest is forgotten.
#pragma once
#include "filter.cuh"

namespace gpu {

template <int ROWS, int COLUMNS, int STAGES>
struct Mma {
  static constexpr int SIDE = 64;  // of a warp's part of the tile
  static constexpr int WARPS = ROWS / SIDE * (COLUMNS / SIDE), THREADS = WARPS * 32;
  static constexpr int STAGE_BYTES = (ROWS + COLUMNS) * CHUNK;
  static constexpr int LIMITS = 2 * (ROWS + COLUMNS);                      // norm and reach of one tile
  static constexpr size_t SHARED = STAGES * STAGE_BYTES + 2 * LIMITS * 4;  // limits of this tile and of the next
};

// Piece p of a row of a buffer [rows][CHUNK].
__device__ inline const unsigned char* piece_at(const unsigned char* buffer, int row, int p) {
  return buffer + row * CHUNK + (p ^ (row / 2 % 4)) * 16;
}

template <int ROWS, int COLUMNS, int STAGES, int RUN>
__global__ void __launch_bounds__(Mma<ROWS, COLUMNS, STAGES>::THREADS, 256 / Mma<ROWS, COLUMNS, STAGES>::THREADS)
filter_mma_kernel(FilterTask t) {
  using Shape = Mma<ROWS, COLUMNS, STAGES>;
  GPU_SHARED_MEMORY(memory);
  int32_t* const limits = reinterpret_cast<int32_t*>(memory + STAGES * Shape::STAGE_BYTES);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_row = warp / (COLUMNS / 64) * 64, warp_column = warp % (COLUMNS / 64) * 64;
  const FilterGrid<ROWS, COLUMNS, RUN> grid(t);
  const StepRun run = grid.run(t, blockIdx.x);
  const int64_t row0 = grid.row0 + int64_t(run.row_tile) * ROWS;
  const int chunks = t.rows.chunks;
  int last = run.end;  // the last step of a circle of tiles may be somebody else's
  if (last > run.begin && column_of<ROWS, COLUMNS>(t, run.row_tile, last - 1) < 0) --last;
  const int total = (last - run.begin) * chunks;
  if (total <= 0) return;
  const float rows_error = tile_error(t.rows, row0, ROWS);

  // Chunk `q` of the run, counted over all its tiles, into its buffer.
  auto fetch = [&](int q) {
    if (q < total) {
      const int64_t column0 = column_of<ROWS, COLUMNS>(t, run.row_tile, run.begin + q / chunks), chunk = q % chunks;
      unsigned char* const to = memory + q % STAGES * Shape::STAGE_BYTES;
      const int8_t* const rows = t.rows.code + (chunk * t.rows.padded + row0) * CHUNK;
      const int8_t* const columns = t.columns.code + (chunk * t.columns.padded + column0) * CHUNK;
#pragma unroll
      for (int piece = threadIdx.x; piece < ROWS * 4; piece += Shape::THREADS) copy16_async(to + piece * 16, rows + piece * 16);
#pragma unroll
      for (int piece = threadIdx.x; piece < COLUMNS * 4; piece += Shape::THREADS)
        copy16_async(to + (ROWS * 4 + piece) * 16, columns + piece * 16);
    }
    copy_commit();  // an empty group keeps the count of groups in step
  };
  // The limits of the tile at a step; visible after the next barrier.
  auto limits_of = [&](int step) { return limits + (step - run.begin) % 2 * Shape::LIMITS; };
  auto prepare = [&](int step) {
    int32_t* const at = limits_of(step);
    const int64_t column0 = column_of<ROWS, COLUMNS>(t, run.row_tile, step);
    const TileLimits rows{at, at + ROWS}, columns{at + 2 * ROWS, at + 2 * ROWS + COLUMNS};
    const bool once = t.cyclic && t.self && step == 0;  // a tile with itself: each pair comes twice, once as either's row
    const float columns_error = tile_error(t.columns, column0, COLUMNS);
    for (int s = threadIdx.x; s < ROWS; s += Shape::THREADS)
      set_limit(rows, s, t.rows, t.row, t.which, row0 + s, t.row_begin, t.row_end, columns_error);
    State taker = t.column;
    if (once) taker.limit = nullptr;
    for (int s = threadIdx.x; s < COLUMNS; s += Shape::THREADS)
      set_limit(columns, s, t.columns, taker, nullptr, column0 + s, t.column_begin, t.column_end, rows_error);
  };

#pragma unroll
  for (int q = 0; q < STAGES - 1; ++q) fetch(q);
  prepare(run.begin);
  sync_block();

  int q = 0;
  for (int step = run.begin; step < last; ++step) {
    int32_t *const row_norm = limits_of(step) + warp_row, *const column_norm = limits_of(step) + 2 * ROWS + warp_column;
    const TileLimits its_rows{row_norm, row_norm + ROWS}, its_columns{column_norm, column_norm + COLUMNS};  // of this warp
    int32_t sum[4][8][4];
    const auto sums = [&](int b, int e) -> int32_t& { return sum[b / 8][b % 8][e]; };
    start_sums<4, 8>(sums, its_rows, its_columns);

    for (int chunk = 0; chunk < chunks; ++chunk, ++q) {
      copy_wait<STAGES - 2>();
      sync_block();  // chunk q is here for everybody, and chunk q - 1 has been read by everybody
      fetch(q + STAGES - 1);
      if (chunk == 0 && step + 1 < last) prepare(step + 1);  // into what the last tile's comparison read, which is over
      const unsigned char* const rows = memory + q % STAGES * Shape::STAGE_BYTES;
      const unsigned char* const columns = rows + ROWS * CHUNK;
#pragma unroll
      for (int p = 0; p < 4; p += 2) {  // 32 codes at a time: two pieces
        uint32_t a[4][4], b[4][4];
#pragma unroll
        for (int m = 0; m < 4; ++m) load_matrices(a[m], piece_at(rows, warp_row + m * 16 + lane % 16, p + lane / 16));
#pragma unroll
        for (int n = 0; n < 4; ++n)
          load_matrices(b[n], piece_at(columns, warp_column + n * 16 + lane / 16 * 8 + lane % 8, p + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < 4; ++m)
#pragma unroll
          for (int n = 0; n < 8; ++n) multiply_s8(sum[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
      }
    }

    if (chunks == 1) sync_block();  // for the limits just prepared

    if (!any_hit<4, 8>(sums, its_rows, its_columns)) continue;
    note_hits<4, 8>(t, sums, its_rows, its_columns, row0 + warp_row,
                    column_of<ROWS, COLUMNS>(t, run.row_tile, step) + warp_column);
  }
}

}  // namespace gpu

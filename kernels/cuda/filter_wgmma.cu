// The filter for sm_90: wgmma on int8, bulk copies, one warpgroup that fetches and two that work.
//
// A block owns 128 rows, 64 for each working warpgroup, and walks a run of tiles of 256 columns. Chunks of the columns
// stream through a ring of buffers; the rows' codes stay in shared memory for the whole run where they fit (else they
// stream along). The second warpgroup trails the first by LAG chunks, so that one compares while the other multiplies.
//
// Two blocks, whose rows meet the same columns, form a cluster: each fetches half of every chunk for both, which halves what
// is asked of L2 (128 x 256 x 64 products take 512 cycles; alone a block would ask for 32 bytes a cycle).
#include "filter.cuh"

namespace gpu {
namespace {

constexpr int ROWS = 128, COLUMNS = WGMMA_TILE, RUN = 32, MAX_STAGES = 8, MIN_STAGES = 4;
constexpr int LAG = 4;
static_assert(LAG <= MIN_STAGES, "the second warpgroup starts before the ring is full of what it must free");
constexpr int THREADS = 384, CLUSTER = 2;
static_assert(ROWS * CLUSTER == COLUMNS, "the blocks of a cluster own the rows of one column tile");
constexpr int ROW_BYTES = ROWS * CHUNK, COLUMN_BYTES = COLUMNS * CHUNK;  // of a chunk
constexpr int LIMITS = 2 * (ROWS + COLUMNS);                             // norm and reach of one tile
constexpr size_t FIXED = 2 * LIMITS * 4 + 256;                           // limits twice, barriers
constexpr size_t SHARED = 227 << 10;
[[maybe_unused]] constexpr int FETCHER = 40, WORKER = 232;  // registers a thread of the two kinds of warpgroup
// A block shares out what it was launched with, 168 a thread: setmaxnreg waits for ever for more than the others gave up.
static_assert(FETCHER + 2 * WORKER <= THREADS / 128 * (65536 / THREADS / 8 * 8), "no warpgroup waits for registers");
[[maybe_unused]] constexpr int LIMIT_SETTERS = 96;  // threads of the first warpgroup beside the warp that fetches

// How shared memory is divided for rows of so many chunks.
struct SharedLayout {
  int chunks, stages;
  bool resident;  // the rows' codes stay
  __host__ __device__ explicit SharedLayout(int chunks) : chunks(chunks) {
    const int64_t left = int64_t(SHARED) - int64_t(FIXED) - int64_t(chunks) * ROW_BYTES;
    resident = left >= int64_t(MIN_STAGES) * COLUMN_BYTES;
    const int64_t fit = resident ? left / COLUMN_BYTES : int64_t(SHARED - FIXED) / (COLUMN_BYTES + ROW_BYTES);
    stages = fit < MAX_STAGES ? int(fit) : MAX_STAGES;
  }
  __host__ __device__ size_t row_bytes() const { return size_t(resident ? chunks : stages) * ROW_BYTES; }
  __host__ __device__ size_t shared() const { return FIXED + row_bytes() + size_t(stages) * COLUMN_BYTES; }
};

#if __CUDA_ARCH_FEAT_SM90_ALL
// Counts through the ring: which buffer, and the parity of the round.
struct Turn {
  int stage = 0;
  uint32_t round = 0;
  __device__ void next(int stages) {
    if (++stage == stages) stage = 0, round ^= 1;
  }
};

// Everything that all warpgroups of a block agree on.
struct Block {
  const FilterTask& t;
  SharedLayout layout;
  unsigned char *rows, *columns;     // buffers [chunks or stages][ROW_BYTES], [stages][COLUMN_BYTES]
  int32_t* limits;                   // [2][LIMITS]
  uint64_t *full, *empty;            // [stages]
  uint64_t *limits_full, *limits_empty;  // [2]
  uint64_t* rows_here;
  StepRun run;
  int64_t row0;

  __device__ Block(const FilterTask& t, unsigned char* memory) : t(t), layout(t.rows.chunks) {
    rows = memory;
    columns = rows + layout.row_bytes();
    limits = reinterpret_cast<int32_t*>(columns + layout.stages * COLUMN_BYTES);
    full = reinterpret_cast<uint64_t*>(limits + 2 * LIMITS), empty = full + MAX_STAGES;
    limits_full = empty + MAX_STAGES, limits_empty = limits_full + 2, rows_here = limits_empty + 2;
    const FilterGrid<ROWS, COLUMNS, RUN> grid(t);
    run = grid.run(t, blockIdx.x);
    if (run.end > run.begin && column_of<ROWS, COLUMNS>(t, run.row_tile, run.end - 1) < 0) --run.end;
    row0 = grid.row0 + int64_t(run.row_tile) * ROWS;
  }
  __device__ int64_t column0(int step) const { return column_of<ROWS, COLUMNS>(t, run.row_tile, step); }
};

// One thread: keeps the ring filled.
__device__ void fetch(const Block& b) {
  const Codes &rows = b.t.rows, &columns = b.t.columns;
  if (b.layout.resident) {
    barrier_expect(b.rows_here, uint32_t(b.layout.chunks * ROW_BYTES));
#pragma unroll 1  // here and below: loops that the compiler unrolls spill what FETCHER registers do not hold
    for (int c = 0; c < b.layout.chunks; ++c)
      bulk_copy(b.rows + c * ROW_BYTES, rows.code + (int64_t(c) * rows.padded + b.row0) * CHUNK, ROW_BYTES, b.rows_here);
  }
  const int64_t part = int64_t(cluster_rank()) * (COLUMN_BYTES / CLUSTER);  // the half that this block fetches
  Turn turn;
  for (int step = b.run.begin; step < b.run.end; ++step) {
    const int64_t column0 = b.column0(step);
#pragma unroll 1
    for (int c = 0; c < b.layout.chunks; ++c, turn.next(b.layout.stages)) {
      uint64_t* const full = b.full + turn.stage;
      barrier_wait(b.empty + turn.stage, turn.round ^ 1);  // free in both blocks
      barrier_expect(full, uint32_t(COLUMN_BYTES + (b.layout.resident ? 0 : ROW_BYTES)));
      bulk_copy_to_all(b.columns + turn.stage * COLUMN_BYTES + part,
                       columns.code + (int64_t(c) * columns.padded + column0) * CHUNK + part, COLUMN_BYTES / CLUSTER, full,
                       (1 << CLUSTER) - 1);
      if (!b.layout.resident)
        bulk_copy(b.rows + turn.stage * ROW_BYTES, rows.code + (int64_t(c) * rows.padded + b.row0) * CHUNK, ROW_BYTES, full);
    }
  }
}

// Threads 0 to LIMIT_SETTERS - 1: the limits of each tile, one tile ahead.
__device__ void set_limits(const Block& b, int thread) {
  const FilterTask& t = b.t;
  const float rows_error = tile_error(t.rows, b.row0, ROWS);
  for (int step = b.run.begin; step < b.run.end; ++step) {
    const int turn = (step - b.run.begin) % 2;
    const uint32_t round = uint32_t(step - b.run.begin) / 2 % 2;
    int32_t* const at = b.limits + turn * LIMITS;
    const int64_t column0 = b.column0(step);
    const TileLimits rows{at, at + ROWS}, columns{at + 2 * ROWS, at + 2 * ROWS + COLUMNS};
    const float columns_error = tile_error(t.columns, column0, COLUMNS);
    State taker = t.column;
    if (t.cyclic && t.self && step == 0) taker.limit = nullptr;  // a tile with itself: each pair comes twice, as either's row
    barrier_wait(b.limits_empty + turn, round ^ 1);
#pragma unroll 1
    for (int s = thread; s < ROWS; s += LIMIT_SETTERS)
      set_limit(rows, s, t.rows, t.row, t.which, b.row0 + s, t.row_begin, t.row_end, columns_error);
    for (int s = thread; s < COLUMNS; s += LIMIT_SETTERS)
      set_limit(columns, s, t.columns, taker, nullptr, column0 + s, t.column_begin, t.column_end, rows_error);
    barrier_arrive(b.limits_full + turn);
  }
}

// This warpgroup is done with a buffer, of which each block holds a half of its own and a half of the other's.
__device__ void free_stage(const Block& b, int stage) {
#pragma unroll
  for (int rank = 0; rank < CLUSTER; ++rank) barrier_arrive_at(b.empty + stage, rank);
}

// A warpgroup: 64 rows against every tile of the run, 16 of them a warp.
__device__ void work(const Block& b, int group) {
  const FilterTask& t = b.t;
  const int first = group * 64 + threadIdx.x / 32 % 4 * 16;  // row of this warp
  const bool speaker = threadIdx.x % 128 == 0;
  Turn turn;
  if (b.layout.resident) barrier_wait(b.rows_here, 0);
  for (int step = b.run.begin; step < b.run.end; ++step) {
    const int which = (step - b.run.begin) % 2;
    int32_t *const row_norm = b.limits + which * LIMITS + first, *const column_norm = b.limits + which * LIMITS + 2 * ROWS;
    const TileLimits rows{row_norm, row_norm + ROWS}, columns{column_norm, column_norm + COLUMNS};
    barrier_wait(b.limits_full + which, uint32_t(step - b.run.begin) / 2 % 2);

    int32_t sum[COLUMNS / 2];
    const auto sums = [&](int n, int e) -> int32_t& { return sum[4 * n + e]; };
    start_sums<1, COLUMNS / 8>(sums, rows, columns);
    // The first group is LAG chunks ahead, and at most a tile (limits wait for both): two barriers in turn.
    if (group == 1) named_wait(1 + which, 256);
    int before = -1;  // the buffer of the chunk before
#pragma unroll 1
    for (int c = 0; c < b.layout.chunks; ++c, turn.next(b.layout.stages)) {
      barrier_wait(b.full + turn.stage, turn.round);
      const unsigned char* const codes = b.rows + (b.layout.resident ? c : turn.stage) * ROW_BYTES + group * 64 * CHUNK;
      const uint64_t a = matrix_descriptor(codes), k = matrix_descriptor(b.columns + turn.stage * COLUMN_BYTES);
      multiply_fence();
      multiply_64x256(sum, a, k);
      multiply_64x256(sum, a + 2, k + 2);  // 32 codes on: addresses count in units of 16 bytes
      multiply_commit();
      if (group == 0 && c == (LAG < b.layout.chunks ? LAG : b.layout.chunks) - 1) named_arrive(1 + which, 256);
      multiply_wait<1>();
      if (speaker && before >= 0) free_stage(b, before);
      before = turn.stage;
    }
    multiply_finish(sum);
    if (speaker) free_stage(b, before);

    if (any_hit<1, COLUMNS / 8>(sums, rows, columns))
      note_hits<1, COLUMNS / 8>(t, sums, rows, columns, b.row0 + first, b.column0(step));
    barrier_arrive(b.limits_empty + which);
  }
}
#endif

__global__ void __launch_bounds__(THREADS, 1) filter_wgmma_kernel(FilterTask t) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  GPU_SHARED_MEMORY(memory);
  const Block b(t, memory);
  if (b.run.begin >= b.run.end) return;
  if (threadIdx.x == 0) {
    for (int s = 0; s < b.layout.stages; ++s) barrier_init(b.full + s, 1), barrier_init(b.empty + s, 2 * CLUSTER);
    for (int s = 0; s < 2; ++s) barrier_init(b.limits_full + s, LIMIT_SETTERS), barrier_init(b.limits_empty + s, 256);
    barrier_init(b.rows_here, 1);
    barrier_init_fence();
  }
  cluster_sync();

  if (threadIdx.x < 128) {
    shrink_registers<FETCHER>();
    if (threadIdx.x == 0) fetch(b);
    else if (threadIdx.x >= 32) set_limits(b, int(threadIdx.x) - 32);
    sync_warp();
    cluster_sync();  // nobody leaves while the other block may still write here
  } else {
    grow_registers<WORKER>();
    work(b, int(threadIdx.x) / 128 - 1);
    sync_warp();
    cluster_sync();
  }
#endif
}

}  // namespace

void filter_wgmma(const FilterTask& task, Stream stream) {
  launch("filter_wgmma", filter_wgmma_kernel, FilterGrid<ROWS, COLUMNS, RUN>(task).blocks(), THREADS,
         SharedLayout(task.rows.chunks).shared(), stream, CLUSTER, task);
}

}  // namespace gpu

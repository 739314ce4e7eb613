// What the kernels of this folder take, and the functions that launch them: plain C++, read by both compilers.
// Letters: n queries, m reference rows, d width, k neighbours. Every launch is asynchronous on its stream.
#pragma once
#include "device.h"

namespace gpu {

// Codes lie in planes: [chunk][row][CHUNK bytes], the 16-byte piece p of a row at place p ^ (row / 2 % 4). So any 8
// rows of a chunk are one block of memory that both matrix units read from shared memory without bank conflicts,
// and a tile is fetched by plain copies.
constexpr int CHUNK = 64;
constexpr int UNIT = 256;  // rows are padded to a multiple; the largest tile side
constexpr int TILE = 128;  // rows that share a tile_error

// Half of a squared reach that every pair is within, and a squared norm that brings nobody within it: with D the largest
// product of two rows of codes (127^2 * MAX_WIDTH, 2.6e8), 2 D <= ALWAYS, ABSENT / 2 > ALWAYS + D, and ABSENT + D < 2^31,
// since two rows that take no part may meet and have any product.
constexpr int32_t ALWAYS = 540'000'000;
constexpr int32_t ABSENT = 1'640'000'000;
constexpr int MAX_WIDTH = 1 << 14;
constexpr int64_t LARGEST_PRODUCT = 127 * 127 * int64_t(MAX_WIDTH);
static_assert(2 * LARGEST_PRODUCT <= ALWAYS && ABSENT / 2 > ALWAYS + LARGEST_PRODUCT && ABSENT + LARGEST_PRODUCT < INT32_MAX);
constexpr int MAX_K = 1024;
constexpr uint64_t NO_KEY = uint64_t(0x7f800000) << 32 | 0xffffffffu;  // a measured neighbour: float bits, row number

struct Codes {
  const int8_t* code;       // [chunks][padded][CHUNK]
  const int32_t* norm;      // [n] |q|^2
  const float* error;       // [n] at least |y - q|
  const float* tile_error;  // [padded / TILE] the largest of each tile
  int64_t n, padded;
  int chunks;
};

enum class Type : int { float16, bfloat16, float32, float64 };

struct Part {
  const char* data;
  Type type;
  int64_t first, rows;            // its rows are [first, first + rows) of the whole
  int64_t row_step, column_step;  // bytes
};

// Original rows on the device. Position p is row which[p], or p where that is null.
struct Rows {
  const Part* parts;      // on the device, ascending first
  int part_count;
  int fast;               // 4 or 2: all parts are float32 or float16, dense and 16-byte aligned; 0: anything
  int d;
  const uint32_t* which;
};

// ---- encode.cu: rows -> codes. Rows [0, count) of `rows` become codes first, first + 1, ...

struct EncodeTask {
  Rows rows;
  int64_t count, first;
  int width, span;        // codes a row, a multiple of 4; the transform's length, see clipscan/engine/codebook.py
  const float* centre;    // [d]
  const float* sign;      // [2, width]
  float shrink, gain;
  int8_t* code;           // planes of `padded` rows
  int64_t padded;
  int32_t* norm;
  float *error, *tile_error;
};
void encode(const EncodeTask& task, Stream stream);

// Codes of the positions which[0], which[1], ... [count]; `to` has room for them.
void gather_codes(const Codes& from, const uint32_t* which, int64_t count, const Codes& to, Stream stream);

// ---- copies.cu: first[i] is the first row equal to row i, as floats; spare counts the rows that repeat one

struct CopiesTask {
  Rows rows;
  int64_t n;
  uint64_t salt;
  unsigned long long* table;  // [slots], zeroed; slots a power of two, at least 2 n
  uint32_t* table_first;      // [slots], filled with 0xff
  int64_t slots;
  uint32_t* slot;             // [n] scratch
  uint32_t *first, *spare;
};
void find_copies(const CopiesTask& task, Stream stream);
void hash_rows(const Rows& rows, int64_t n, uint64_t* hash, Stream stream);  // the numbers of csrc/rows.cpp

// ---- filter_mma.cu, filter_wgmma.cu: tiles of codes -> pairs that may be neighbours

// State of the queries at work. Row i of the state is position first + i of its set.
struct State {
  float* limit;       // [n] no neighbour is farther, in code units; only falls
  uint32_t* count;    // [n] candidates appended, those beyond `capacity` included
  uint32_t* kept;     // [n] of them known to the last refine
  uint64_t* waiting;  // [n, capacity] |q_i - q_j|^2 << 32 | position of j
  uint64_t* best;     // [n, k] keys, ascending
  int64_t first, n;
  int capacity, k;
};

// Tiles of `tile` rows against tiles of columns. Row tile i meets the column tiles begin_step <= s < end_step after its
// own (cyclic), or the tiles begin_step <= s < end_step of the range.
struct FilterTask {
  Codes rows, columns;
  const uint32_t* which;             // row of the codes -> position in its set; null: the same
  State row, column;                 // column.limit null: columns take nothing
  const int64_t *row_id, *column_id; // of positions; null: no exclusion
  bool self;                         // a position does not meet itself
  int64_t row_begin, row_end;        // rows of the codes. Tiles start at the multiple of a column tile at or before
  int64_t column_begin, column_end;  // the beginning; who is outside takes no part
  int begin_step, end_step;
  bool cyclic;
};
void filter_mma(const FilterTask& task, Stream stream);    // sm_80 and later
void filter_wgmma(const FilterTask& task, Stream stream);  // sm_90
constexpr int MMA_TILE = 128, WGMMA_TILE = 256;            // columns of a tile: what a step is

// ---- refine.cu: candidates -> limits, measured distances, the table

// From distances to code units, rounding outwards: see csrc/refine.h.
struct Units {
  float bound_scale, bound_add;        // upper bound of a distance in code units -> limit
  float distance_scale, distance_add;  // measured distance -> limit
};

enum class Refine : int { tighten, settle, finish };

struct RefineTask {
  State state;
  Units units;
  Refine mode;
  bool measures;              // originals are here; otherwise rows that need them are listed as full
  Rows queries, reference;    // originals
  const float *query_error, *reference_error;  // by position
  const uint32_t* list;       // rows of the state to look at; null: all
  int64_t count;              // how many
  uint32_t *overflowed, *overflowed_count;     // rows that met more candidates than their capacity
  uint32_t *full, *full_count;                 // rows to be measured by the host
  unsigned long long *passed, *measured;       // pairs, added up
};
void refine(const RefineTask& task, Stream stream);

void reset(const State& state, const float* distance, const Units& units, Stream stream);  // distance [n] or null
void restart(const State& state, const uint32_t* list, int64_t count, Stream stream);  // of the listed rows: all but limits
void write_table(const State& state, int64_t origin, float* distance, int64_t* index, Stream stream);

// ---- density.cu: clipscan/engine/reference.py:density, float64

struct DensityTask {
  const float* distance;  // [n, k]
  const int64_t* index;
  int64_t n;
  int k;
  double *kdist, *lid, *lid_mom, *lrd;                  // out [n]
  const double *reference_kdist, *reference_lid, *reference_lrd;  // [m]
  double *lof, *slof, *dao, *logdao;                    // out [n]
};
void density(const DensityTask& task, Stream stream);

}  // namespace gpu

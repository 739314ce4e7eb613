// Part of kernel.inl: codes against codes with tile registers, 2 x 2 tiles of 16 x 16 sums, 64 codes a step.
// The including file has tile_shapes.h and sets, with T a literal:
//   TILE_CONFIGURE(const TileShapes*)   eight tiles of these shapes, zero
//   TILE_RELEASE()
//   TILE_ZERO(T)
//   TILE_LOAD(T, at, stride)            sixteen rows of 64 bytes, one every `stride` bytes
//   TILE_STORE(T, at, stride)
//   TILE_DOT(SUM, ROWS, COLUMNS)        sum[i][j] += sum over g and b of rows[i][g][b] * columns[g][j][b], int8

constexpr int SIDE = 16, ROW = 64;  // rows of a tile, and bytes of each: 16 sums, or 16 groups of codes
constexpr int STEP = ROW / GROUP;
static_assert(MR == 2 * SIDE && NR == 2 * SIDE && GROUP == 4 && OFFSET == 0);

// An estimate, not tuned on this kernel: a loop of this shape, measured elsewhere, did 1,928 GOP/s at two steps a row
// where multiplications alone do 4,388, so that all but them takes as long as 2.5 steps.
constexpr int LOOK = 5 * STEP / 2;

const TileShapes SHAPES = {
    1, 0, {}, {ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW}, {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE}};

thread_local int holds = 0;

void enter() {
  if (holds++ == 0) TILE_CONFIGURE(&SHAPES);
}

void leave() {
  if (--holds == 0) TILE_RELEASE();
}

// Tiles 0 to 3 hold the sums, row by row; 4 and 5 the rows' codes, 6 and 7 the columns'.

inline void begin() {
  TILE_ZERO(0);
  TILE_ZERO(1);
  TILE_ZERO(2);
  TILE_ZERO(3);
}

inline void add_products(const Tile& t, int64_t from, int64_t to) {
  const int32_t* rows = t.rows + from * MR;
  const uint8_t* columns = t.panel + from * NR * GROUP;
  for (int64_t g = from; g < to; g += STEP, rows += STEP * MR, columns += STEP * NR * GROUP) {
    TILE_LOAD(4, rows, ROW);
    TILE_LOAD(6, columns, NR * GROUP);
    TILE_DOT(0, 4, 6);
    TILE_LOAD(7, columns + SIDE * GROUP, NR * GROUP);
    TILE_DOT(1, 4, 7);
    TILE_LOAD(5, rows + SIDE * STEP, ROW);
    TILE_DOT(2, 5, 6);
    TILE_DOT(3, 5, 7);
  }
}

inline void put(int32_t* sum) {  // [MR][NR]
  constexpr int STRIDE = NR * sizeof(int32_t);
  TILE_STORE(0, sum, STRIDE);
  TILE_STORE(1, sum + SIDE, STRIDE);
  TILE_STORE(2, sum + SIDE * NR, STRIDE);
  TILE_STORE(3, sum + SIDE * NR + SIDE, STRIDE);
}

inline void write(const int32_t* sum, const int32_t* start, int32_t* value) {
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) value[i * NR + j] = sum[i * NR + j] + start[j];
}

void multiply(const Tile& t) {
  alignas(ROW) int32_t sum[MR * NR];
  begin();
  add_products(t, 0, t.groups);
  put(sum);
  write(sum, t.start + LAST * NR, t.value);
}

int filter(const Tile& t) {
  alignas(ROW) int32_t sum[MR * NR];
  begin();
  int64_t done = 0;
  for (uint32_t stops = t.stops | 1u << LAST; stops; stops &= stops - 1) {
    const int stop = __builtin_ctz(stops);
    const int64_t to = groups_to(stop, t.groups, STEP);
    add_products(t, done, to);
    done = to;
    put(sum);
    IVec start[VECS];
    for (int v = 0; v < VECS; ++v) start[v] = load<IVec>(t.start + stop * NR + v * LANES);
    if (!hits([&](int i, int v) { return load<IVec>(sum + i * NR + v * LANES) + start[v]; }, t, stop)) return stop;
  }
  write(sum, t.start + LAST * NR, t.value);
  return STOPS;
}

constexpr struct Pattern {
  alignas(ROW) int8_t codes[SIDE * ROW]{};
  constexpr Pattern() {
    for (int p = 0; p < SIDE * ROW; ++p) codes[p] = int8_t(p % 7 - 3);
  }
} PATTERN;

int64_t spin_codes(int64_t rounds) {
  enter();
  begin();
  TILE_LOAD(4, PATTERN.codes, ROW);
  TILE_LOAD(5, PATTERN.codes, ROW);
  TILE_LOAD(6, PATTERN.codes, ROW);
  TILE_LOAD(7, PATTERN.codes, ROW);
  for (int64_t r = 0; r < rounds; ++r) {
    TILE_DOT(0, 4, 6);
    TILE_DOT(1, 4, 7);
    TILE_DOT(2, 5, 6);
    TILE_DOT(3, 5, 7);
  }
  leave();
  return rounds * 2 * MR * NR * GROUP * STEP;
}

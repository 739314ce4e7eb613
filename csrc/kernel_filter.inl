// Part of kernel.inl: codes against codes, a tile of rows by a panel of columns, with sums in vector registers.

constexpr int STEP = 1, LOOK = 0;
constexpr void (*enter)() = nullptr, (*leave)() = nullptr;

struct Sums {
  IVec at[MR][VECS];
};

inline Sums begin(const int32_t* start) {
  Sums sum;
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum.at[i][v] = load<IVec>(start + v * LANES);
  return sum;
}

inline void add_products(Sums& sum, const Tile& t, int64_t from, int64_t to) {
  const uint8_t* columns = t.panel + from * NR * GROUP;
  const int32_t* rows = t.rows + from * MR;
  for (int64_t g = from; g < to; ++g, columns += NR * GROUP, rows += MR) {
    IVec column[VECS];
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) column[v] = LOAD_CODES(columns + v * LANES * GROUP);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum.at[i][v] = DOT(sum.at[i][v], column[v], broadcast(rows[i]));
  }
}

inline void write(const Sums& sum, int32_t* value) {
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) store(value + i * NR + v * LANES, sum.at[i][v]);
}

void multiply(const Tile& t) {
  Sums sum = begin(t.start + LAST * NR);
  add_products(sum, t, 0, t.groups);
  write(sum, t.value);
}

int filter(const Tile& t) {
  int stop = __builtin_ctz(t.stops | 1u << LAST);
  Sums sum = begin(t.start + stop * NR);
  for (int64_t done = 0;;) {
    const int64_t to = groups_to(stop, t.groups, 1);
    add_products(sum, t, done, to);
    done = to;
    if (!hits([&](int i, int v) { return sum.at[i][v]; }, t, stop)) return stop;
    if (stop == LAST) break;
    const int next = __builtin_ctz((t.stops | 1u << LAST) & ~((2u << stop) - 1));
    for (int v = 0; v < VECS; ++v) {
      const IVec change = load<IVec>(t.start + next * NR + v * LANES) - load<IVec>(t.start + stop * NR + v * LANES);
      for (int i = 0; i < MR; ++i) sum.at[i][v] = sum.at[i][v] + change;
    }
    stop = next;
  }
  write(sum, t.value);
  return STOPS;
}

// The fastest that products can be, for benchmarks; as spin_floats.
int64_t spin_codes(int64_t rounds) {
  Sums sum;
  IVec row = broadcast(0x01020304);
  const IVec column = broadcast(0x05060708);
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum.at[i][v] = broadcast(i * VECS + v);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum.at[i][v] = DOT(sum.at[i][v], column, row);
    row = row ^ column;  // or the products would be computed once
  }
  IVec all = {};
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) all = all ^ sum.at[i][v];
  volatile int32_t keep = all[0];
  (void)keep;
  return rounds * 2 * MR * NR * GROUP;
}

// Part of kernel.inl: codes against codes, a tile of rows by a panel of columns.

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

inline bool hits(const Sums& sum, const Tile& t, int stop) {
  const int32_t *row_limit = t.row_limit + stop * t.row_step, *base = t.base + stop * t.row_step;
  uint32_t any = 0;
  for (int i = 0; i < MR; ++i) {
    uint32_t bits = 0;
    for (int v = 0; v < VECS; ++v) {
      uint32_t here = AT_LEAST(sum.at[i][v], broadcast(row_limit[i]));
      if (t.column_reach)
        here |= AT_LEAST(sum.at[i][v] + load<IVec>(t.column_reach + v * LANES), broadcast(base[i]));
      bits |= here << (v * LANES);
    }
    t.hit[i] = bits;
    any |= bits;
  }
  return any;
}

void multiply(const Tile& t) {
  Sums sum = begin(t.start + LAST * NR);
  add_products(sum, t, 0, t.groups);
  write(sum, t.value);
}

bool compare(const Tile& t) {
  Sums sum;
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum.at[i][v] = load<IVec>(t.value + i * NR + v * LANES);
  return hits(sum, t, LAST);
}

int filter(const Tile& t) {
  int stop = __builtin_ctz(t.stops | 1u << LAST);
  Sums sum = begin(t.start + stop * NR);
  for (int64_t done = 0;;) {
    const int64_t to = t.groups * (stop + 1) / STOPS;
    add_products(sum, t, done, to);
    done = to;
    if (!hits(sum, t, stop)) return stop;
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

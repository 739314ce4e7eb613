// Part of kernel.inl: values against the limits of their rows and columns.

// value(i, v): the values of row i in vector v of the panel.
template <class Value>
inline bool hits(Value value, const Tile& t, int stop) {
  const int32_t *row_limit = t.row_limit + stop * t.row_step, *base = t.base + stop * t.row_step;
  uint32_t any = 0;
  for (int i = 0; i < MR; ++i) {
    uint32_t bits = 0;
    for (int v = 0; v < VECS; ++v) {
      const IVec here = value(i, v);
      uint32_t pass = AT_LEAST(here, broadcast(row_limit[i]));
      if (t.column_reach) pass |= AT_LEAST(here + load<IVec>(t.column_reach + v * LANES), broadcast(base[i]));
      bits |= pass << (v * LANES);
    }
    t.hit[i] = bits;
    any |= bits;
  }
  return any;
}

bool compare(const Tile& t) {
  return hits([&](int i, int v) { return load<IVec>(t.value + i * NR + v * LANES); }, t, LAST);
}

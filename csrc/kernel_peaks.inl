// Part of kernel.inl: the fastest this instruction set can be in float32, for benchmarks.
// Every register starts from another number: equal ones would be computed once.

int64_t spin_floats(int64_t rounds) {
  Vec sum[FLOAT_ROWS][VECS];
  const Vec row = broadcast(1.0f), column = broadcast(0.5f);
  for (int i = 0; i < FLOAT_ROWS; ++i)
    for (int v = 0; v < VECS; ++v) sum[i][v] = broadcast(float(i * VECS + v));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < FLOAT_ROWS; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum[i][v] = FMA(column, row, sum[i][v]);
  }
  Vec all = {};
  for (int i = 0; i < FLOAT_ROWS; ++i)
    for (int v = 0; v < VECS; ++v) all = all + sum[i][v];
  volatile float keep = all[0];
  (void)keep;
  return rounds * 2 * FLOAT_ROWS * NR;
}

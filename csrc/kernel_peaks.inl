// Part of kernel.inl: the fastest this instruction set can be, for benchmarks.
// Every register starts from another number: equal ones would be computed once.

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

int64_t spin_floats(int64_t rounds) {
  Vec sum[MR][VECS];
  const Vec row = broadcast(1.0f), column = broadcast(0.5f);
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum[i][v] = broadcast(float(i * VECS + v));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum[i][v] = FMA(column, row, sum[i][v]);
  }
  Vec all = {};
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) all = all + sum[i][v];
  volatile float keep = all[0];
  (void)keep;
  return rounds * 2 * MR * NR;
}

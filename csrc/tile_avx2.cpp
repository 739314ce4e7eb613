// AVX2 and FMA: a tile of 6 x 16, twelve of the sixteen registers hold sums.
#include <immintrin.h>
#define LANES 8
#define MR 6
#define VECS 2
#define TILE tile_avx2
#define TILE_NAME "avx2"
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MOVEMASK(m) _mm256_movemask_ps((__m256)(m))
#include "tile.inl"

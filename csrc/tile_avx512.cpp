// AVX-512: a tile of 12 x 32, twenty-four of the thirty-two registers hold sums.
#include <immintrin.h>
#define LANES 16
#define MR 12
#define VECS 2
#define TILE tile_avx512
#define TILE_NAME "avx512"
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MOVEMASK(m) _mm512_movepi32_mask((__m512i)(m))
#include "tile.inl"

// AVX-512 with VNNI: a tile of 12 x 32, twenty-four of the thirty-two registers hold sums.
#include <immintrin.h>
#include <stdint.h>
typedef int32_t IVec __attribute__((vector_size(64)));
typedef float Vec __attribute__((vector_size(64)));
#define LANES 16
#define MR 12
#define VECS 2
#define GROUP 4
#define OFFSET 128
#define KERNEL kernel_avx512
#define KERNEL_NAME "avx512"
#define LOAD_CODES(at) (IVec) _mm512_loadu_si512(at)
#define DOT(sum, columns, row) (IVec) _mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(columns), (__m512i)(row))
#define AT_LEAST(a, b) uint32_t(_mm512_cmpge_epi32_mask((__m512i)(a), (__m512i)(b)))
#define FMA(a, b, c) (Vec) _mm512_fmadd_ps(a, b, c)
#define WIDEN(half, out) _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(half))))
#include "kernel.inl"

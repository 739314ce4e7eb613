// AVX2 with the 256-bit dot product of AVX-VNNI: a tile of 6 x 16.
#include <immintrin.h>
#include <stdint.h>
typedef int32_t IVec __attribute__((vector_size(32)));
typedef float Vec __attribute__((vector_size(32)));
#define LANES 8
#define MR 6
#define VECS 2
#define GROUP 4
#define OFFSET 128
#define KERNEL kernel_avxvnni
#define KERNEL_NAME "avxvnni"
#define LOAD_CODES(at) (IVec) _mm256_loadu_si256((const __m256i*)(at))
#define DOT(sum, columns, row) (IVec) _mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(columns), (__m256i)(row))
#define AT_LEAST(a, b) uint32_t(~_mm256_movemask_ps((__m256)_mm256_cmpgt_epi32((__m256i)(b), (__m256i)(a))) & 0xff)
#define FMA(a, b, c) (Vec) _mm256_fmadd_ps(a, b, c)
#define WIDEN(half, out) _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(half))))
#include "kernel.inl"

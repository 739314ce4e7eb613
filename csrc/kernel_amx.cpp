// AMX: int8 tiles, signed by signed, for a tile of 32 x 32. All but products by AVX-512.
#include <immintrin.h>
#include <stdint.h>

#include "tile_shapes.h"
typedef int32_t IVec __attribute__((vector_size(64)));
typedef float Vec __attribute__((vector_size(64)));
#define LANES 16
#define MR 32
#define VECS 2
#define GROUP 4
#define OFFSET 0
#define FLOAT_ROWS 12
#define KERNEL kernel_amx
#define KERNEL_NAME "amx"
#define AT_LEAST(a, b) uint32_t(_mm512_cmpge_epi32_mask((__m512i)(a), (__m512i)(b)))
#define FMA(a, b, c) (Vec) _mm512_fmadd_ps(a, b, c)
#define WIDEN(half, out) _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(half))))
#define TILE_CONFIGURE(shapes) _tile_loadconfig(shapes)
#define TILE_RELEASE() _tile_release()
#define TILE_ZERO(tile) _tile_zero(tile)
#define TILE_LOAD(tile, at, stride) _tile_loadd(tile, at, stride)
#define TILE_STORE(tile, at, stride) _tile_stored(tile, at, stride)
#define TILE_DOT(sum, rows, columns) _tile_dpbssd(sum, rows, columns)
#include "kernel.inl"

// Vectors of four lanes, for kernels that run on any processor; codes are widened to int16. On x86-64 SSE2 is always there.
#pragma once
#include <stdint.h>
typedef int32_t IVec __attribute__((vector_size(16)));
typedef float Vec __attribute__((vector_size(16)));
#define LANES 4
#define FMA(a, b, c) ((a) * (b) + (c))
#if defined(__SSE2__)
#include <emmintrin.h>
static inline IVec load_codes(const uint8_t* at) {
  const __m128i codes = _mm_loadl_epi64((const __m128i*)at);
  return (IVec)_mm_srai_epi16(_mm_unpacklo_epi8(codes, codes), 8);
}
#define LOAD_CODES(at) load_codes(at)
#define DOT(sum, columns, row) ((sum) + (IVec)_mm_madd_epi16((__m128i)(columns), (__m128i)(row)))
#define AT_LEAST(a, b) uint32_t(~_mm_movemask_ps((__m128)_mm_cmpgt_epi32((__m128i)(b), (__m128i)(a))) & 0xf)
#else
static inline IVec load_codes(const uint8_t* at) {  // low half, high half: two int16 a word
  IVec v;
  for (int l = 0; l < LANES; ++l) v[l] = int32_t(uint16_t(int8_t(at[2 * l]))) | int32_t(int8_t(at[2 * l + 1])) * 65536;
  return v;
}
static inline IVec low(IVec x) { return (x << 16) >> 16; }
static inline IVec high(IVec x) { return x >> 16; }
static inline uint32_t at_least(IVec a, IVec b) {
  uint32_t bits = 0;
  for (int l = 0; l < LANES; ++l) bits |= uint32_t(a[l] >= b[l]) << l;
  return bits;
}
#define LOAD_CODES(at) load_codes(at)
#define DOT(sum, columns, row) ((sum) + low(columns) * low(row) + high(columns) * high(row))
#define AT_LEAST(a, b) at_least(a, b)
#endif

// Sixteen bytes at a time. Part of every x86-64-v2, so it needs no flags of its own.
#if defined(__SSSE3__)
#include <tmmintrin.h>

#include <cstdint>
#include <cstring>

namespace {
using Vec = __m128i;
Vec everywhere(int32_t x) { return _mm_set1_epi32(x); }
Vec load(const uint8_t* at) { return _mm_loadu_si128((const Vec*)at); }
void store(uint8_t* at, Vec x) { _mm_storeu_si128((Vec*)at, x); }
Vec low_bytes(Vec a, Vec b) { return _mm_unpacklo_epi8(a, b); }
Vec high_bytes(Vec a, Vec b) { return _mm_unpackhi_epi8(a, b); }
Vec add(Vec a, Vec b) { return _mm_add_epi32(a, b); }
Vec multiply(Vec a, Vec b) { return _mm_madd_epi16(a, b); }
template <int N> Vec up_bits(Vec x) { return _mm_slli_epi32(x, N); }
template <int N> Vec down_bits(Vec x) { return _mm_srai_epi32(x, N); }
Vec words(Vec a, Vec b) { return _mm_packs_epi32(a, b); }
Vec bytes(Vec a, Vec b) { return _mm_packus_epi16(a, b); }

Vec paired(Vec x) { return _mm_shuffle_epi8(x, _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1)); }
Vec two_pixels(const uint8_t* at, int64_t) { return paired(_mm_loadl_epi64((const Vec*)at)); }
Vec one_pixel(const uint8_t* at, int64_t) {
  int32_t pixel;
  std::memcpy(&pixel, at, sizeof pixel);
  return paired(_mm_cvtsi32_si128(pixel));
}
void store_pixels(uint8_t* out, int64_t, Vec x) {
  const int32_t pixel = _mm_cvtsi128_si32(x);
  std::memcpy(out, &pixel, sizeof pixel);
}
}  // namespace

#define TOGETHER 1
#define WEIGHING weighing_ssse3
#define NAME "ssse3"
#include "resample_pairs.inl"
#endif

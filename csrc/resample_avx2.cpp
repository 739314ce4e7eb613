// Thirty-two bytes at a time, two rows to a vector on the way across.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {
using Vec = __m256i;
Vec everywhere(int32_t x) { return _mm256_set1_epi32(x); }
Vec load(const uint8_t* at) { return _mm256_loadu_si256((const Vec*)at); }
void store(uint8_t* at, Vec x) { _mm256_storeu_si256((Vec*)at, x); }
Vec low_bytes(Vec a, Vec b) { return _mm256_unpacklo_epi8(a, b); }
Vec high_bytes(Vec a, Vec b) { return _mm256_unpackhi_epi8(a, b); }
Vec add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
Vec multiply(Vec a, Vec b) { return _mm256_madd_epi16(a, b); }
template <int N> Vec up_bits(Vec x) { return _mm256_slli_epi32(x, N); }
template <int N> Vec down_bits(Vec x) { return _mm256_srai_epi32(x, N); }
Vec words(Vec a, Vec b) { return _mm256_packs_epi32(a, b); }
Vec bytes(Vec a, Vec b) { return _mm256_packus_epi16(a, b); }

int32_t word(const uint8_t* at) {
  int32_t pixel;
  std::memcpy(&pixel, at, sizeof pixel);
  return pixel;
}
Vec paired(__m128i upper, __m128i lower) {
  const __m128i order = _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
  return _mm256_shuffle_epi8(_mm256_set_m128i(lower, upper), _mm256_broadcastsi128_si256(order));
}
Vec two_pixels(const uint8_t* at, int64_t stride) {
  return paired(_mm_loadl_epi64((const __m128i*)at), _mm_loadl_epi64((const __m128i*)(at + stride)));
}
Vec one_pixel(const uint8_t* at, int64_t stride) {
  return paired(_mm_cvtsi32_si128(word(at)), _mm_cvtsi32_si128(word(at + stride)));
}
void store_pixels(uint8_t* out, int64_t stride, Vec x) {
  const int32_t upper = _mm_cvtsi128_si32(_mm256_castsi256_si128(x)), lower = _mm256_extract_epi32(x, 4);
  std::memcpy(out, &upper, sizeof upper);
  std::memcpy(out + stride, &lower, sizeof lower);
}
}  // namespace

#define TOGETHER 2
#define WEIGHING weighing_avx2
#define NAME "avx2"
#include "resample_pairs.inl"

// Body of a Weighing that multiplies pairs of neighbours (pmaddwd), each weight in two halves.
// The including file sets WEIGHING, NAME, TOGETHER (rows that lie in one vector of `across`), and of its vectors Vec
//   Vec everywhere(int32_t), load(const uint8_t*), low_bytes(Vec, Vec), high_bytes(Vec, Vec) (interleaved, as unpack),
//   add, multiply (pmaddwd), up_bits<n>, down_bits<n>, words, bytes (which saturate, as packs and packus),
//   store(uint8_t*, Vec)
//   Vec two_pixels, one_pixel(const uint8_t* at, stride)   of each row as eight int16, neighbours side by side
//   store_pixels(uint8_t* out, stride, Vec)                the first four bytes of each row
#include <cstring>

#include "resample.h"

namespace {

// Four sums a row, of the high and the low halves of weights.
struct Sums {
  Vec high = everywhere(0), low = everywhere(1 << (FRACTION_BITS - 1));  // which rounds

  void weigh(Vec pairs, Vec high_weights, Vec low_weights) {
    high = add(high, multiply(pairs, high_weights));
    low = add(low, multiply(pairs, low_weights));
  }
  Vec levels() const { return down_bits<FRACTION_BITS>(add(up_bits<LOW_BITS>(high), low)); }
};

Vec both(const int16_t* weights) {
  int32_t pair;
  std::memcpy(&pair, weights, sizeof pair);
  return everywhere(pair);
}

// Several vectors share the loads of weights, and the processor has as many chains of sums to work on.
template <int VECTORS>
void across_rows(const uint8_t* from, int64_t stride, const Taps& taps, uint8_t* out, int64_t out_stride) {
  for (size_t i = 0; i < taps.first.size(); ++i) {
    Sums sums[VECTORS];
    const uint8_t* pixels = from + 4 * taps.first[i];
    const int16_t *high = &taps.high[i * taps.room], *low = &taps.low[i * taps.room];
    const int64_t count = taps.count[i], even = count & ~int64_t(1);
    for (int64_t t = 0; t < even; t += 2) {
      const Vec high_weights = both(high + t), low_weights = both(low + t);
      for (int v = 0; v < VECTORS; ++v)
        sums[v].weigh(two_pixels(pixels + v * TOGETHER * stride + 4 * t, stride), high_weights, low_weights);
    }
    if (even < count) {  // the picture may end behind this pixel
      const Vec high_weights = both(high + even), low_weights = both(low + even);
      for (int v = 0; v < VECTORS; ++v)
        sums[v].weigh(one_pixel(pixels + v * TOGETHER * stride + 4 * even, stride), high_weights, low_weights);
    }
    for (int v = 0; v < VECTORS; ++v) {  // a fourth byte is the next pixel's, which comes later
      const Vec levels = words(sums[v].levels(), everywhere(0));
      store_pixels(out + v * TOGETHER * out_stride + 3 * i, out_stride, bytes(levels, levels));
    }
  }
}

void across(const uint8_t* from, int64_t stride, int64_t rows, const Taps& taps, uint8_t* out, int64_t out_stride) {
  constexpr int VECTORS = 4, STEP = VECTORS * TOGETHER;
  int64_t r = 0;
  for (; r + STEP <= rows; r += STEP)
    across_rows<VECTORS>(from + r * stride, stride, taps, out + r * out_stride, out_stride);
  for (; r + TOGETHER <= rows; r += TOGETHER)
    across_rows<1>(from + r * stride, stride, taps, out + r * out_stride, out_stride);
  for (; r < rows; ++r) across_rows<1>(from + r * stride, 0, taps, out + r * out_stride, 0);  // itself TOGETHER times
}

void down(const uint8_t* from, int64_t stride, int64_t count, const int16_t* high, const int16_t* low, int64_t width,
          uint8_t* out) {
  const Vec zero = everywhere(0);
  for (int64_t x = 0; x < width; x += sizeof(Vec)) {
    Sums sums[4];
    for (int64_t t = 0; t < count; t += 2) {
      const Vec high_weights = both(high + t), low_weights = both(low + t);
      const Vec upper = load(from + t * stride + x);
      const Vec lower = t + 1 < count ? load(from + (t + 1) * stride + x) : zero;
      const Vec left = low_bytes(upper, lower), right = high_bytes(upper, lower);
      sums[0].weigh(low_bytes(left, zero), high_weights, low_weights);
      sums[1].weigh(high_bytes(left, zero), high_weights, low_weights);
      sums[2].weigh(low_bytes(right, zero), high_weights, low_weights);
      sums[3].weigh(high_bytes(right, zero), high_weights, low_weights);
    }
    const Vec first = words(sums[0].levels(), sums[1].levels()), second = words(sums[2].levels(), sums[3].levels());
    store(out + x, bytes(first, second));
  }
}

}  // namespace

const Weighing WEIGHING = {NAME, across, down};

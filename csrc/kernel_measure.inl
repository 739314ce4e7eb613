// Part of kernel.inl: float32 rows, their exact distances, and float16 widened.

// Products are rounded before they are added (the build forbids contraction to FMA), which is what
// makes the result the same on every machine.
void measure4(const float* x, const float* const* y, int64_t d, float* out) {
  constexpr int PARTS = 16 / LANES;
  Vec sum[4][PARTS] = {};
  int64_t p = 0;
  for (; p + 16 <= d; p += 16)
    for (int s = 0; s < PARTS; ++s) {
      const Vec query = load<Vec>(x + p + s * LANES);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        const Vec difference = query - load<Vec>(y[c] + p + s * LANES);
        const Vec square = difference * difference;
        sum[c][s] = sum[c][s] + square;
      }
    }
  for (int c = 0; c < 4; ++c) {
    float lane[16];
    for (int s = 0; s < PARTS; ++s) store(lane + s * LANES, sum[c][s]);
    for (int64_t q = p, l = 0; q < d; ++q, ++l) {
      const float difference = x[q] - y[c][q];
      const float square = difference * difference;
      lane[l] = lane[l] + square;
    }
    for (int half = 8; half; half /= 2)
      for (int l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
    out[c] = lane[0];
  }
}

inline float widen_one(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u | rest << 13);
  // A shift puts the exponent where a float32 has it, 112 too small; the product repairs that, subnormals too.
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(rest << 13) * 0x1p112f));
}

void widen(const uint16_t* half, int64_t d, float* out) {
  int64_t p = 0;
#ifdef WIDEN
  for (; p + 8 <= d; p += 8) WIDEN(half + p, out + p);
#endif
  for (; p < d; ++p) out[p] = widen_one(half[p]);
}

// Part of kernel.inl: a float32 row to its int8 codes, by two Hadamard transforms.

// One stage within a vector: lanes l and l ^ H, for l without bit H, become their sum and their difference.
template <int H, int... L>
inline Vec stage(Vec x, std::integer_sequence<int, L...>) {
#if defined(__clang__)
  const Vec other = __builtin_shufflevector(x, x, (L ^ H)...);
#else
  const Vec other = __builtin_shuffle(x, IVec{(L ^ H)...});
#endif
  const Vec turned = x * Vec{(L & H ? -1.0f : 1.0f)...};
  return other + turned;
}

template <int H>
inline Vec stages(Vec x) {
  if constexpr (H < LANES)
    return stages<2 * H>(stage<H>(x, std::make_integer_sequence<int, LANES>{}));
  else
    return x;
}

// In place, unnormalised; count a power of two. Stages in order h = 1, 2, 4, ...: a + b, a - b.
inline void hadamard(float* y, int64_t count) {
  int64_t h = 1;
  if (count >= LANES) {
    for (int64_t p = 0; p < count; p += LANES) store(y + p, stages<1>(load<Vec>(y + p)));
    h = LANES;
  }
  for (; h < count; h *= 2)
    for (int64_t p = 0; p < count; p += 2 * h)
      for (int64_t l = p; l < p + h; ++l) {
        const float a = y[l], b = y[l + h];
        y[l] = a + b;
        y[l + h] = a - b;
      }
}

float encode(const float* row, const Rotation& r, float* y, int8_t* code) {
  for (int64_t p = 0; p < r.d; ++p) y[p] = (row[p] - r.centre[p]) * r.sign[p];
  for (int64_t p = r.d; p < r.width + 16; ++p) y[p] = 0.0f;
  hadamard(y, r.span);
  if (r.span < r.width) {
    for (int64_t p = 0; p < r.span; ++p) y[p] = y[p] * r.shrink;
    for (int64_t p = 0; p < r.width; ++p) y[p] = y[p] * r.sign[r.width + p];
    hadamard(y + r.width - r.span, r.span);
    for (int64_t p = r.width - r.span; p < r.width; ++p) y[p] = y[p] * r.shrink;
  }

  constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest, ties to even
  float length[16] = {}, error[16] = {};
  for (int64_t p = 0; p < r.width; p += 16)
    for (int l = 0; l < 16; ++l) {
      const float x = y[p + l] * r.gain;
      const float inside = x < -127.0f ? -127.0f : x > 127.0f ? 127.0f : x;
      const float q = (inside + TO_INTEGER) - TO_INTEGER;
      const float e = x - q;
      length[l] += x * x;
      error[l] += e * e;
      code[p + l] = int8_t(q);
    }
  double y2 = 0, e2 = 0;
  for (int l = 0; l < 16; ++l) y2 += length[l], e2 += error[l];
  // Rounding: one step a butterfly stage and a few more on y (relative to its length), one step a term
  // on the two sums.
  constexpr double UNIT = FLT_EPSILON / 2;
  const double terms = 1.0 + double(r.width + 16) * UNIT;
  const double steps = (2 * std::bit_width(uint64_t(r.span)) + 16) * UNIT;
  return float((std::sqrt(e2) * terms + std::sqrt(y2) * terms * steps) * (1 + 16 * FLT_EPSILON));
}

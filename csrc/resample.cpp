#include "resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double triangle(double x) { return std::max(0.0, 1 - std::fabs(x)); }

// Of the places [from, from + n) among `full` that `size` pixels are scaled to.
Taps make_taps(int64_t size, int64_t full, int64_t from, int64_t n, bool is_cubic) {
  const double scale = double(size) / double(full), widened = std::max(scale, 1.0);
  const double support = (is_cubic ? 2.0 : 1.0) * widened, shrink = 1.0 / widened;
  Taps taps;
  taps.room = 2 * (int64_t(std::ceil(support)) + 1);
  taps.high.resize(n * taps.room), taps.low.resize(n * taps.room);
  std::vector<double> weight(taps.room);
  for (int64_t i = 0; i < n; ++i) {
    const double centre = (double(from + i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, int64_t(centre - support + 0.5));
    const int64_t count = std::min(size, int64_t(centre + support + 0.5)) - first;
    double sum = 0;
    for (int64_t t = 0; t < count; ++t) {
      const double x = (double(t + first) - centre + 0.5) * shrink;
      sum += weight[t] = is_cubic ? cubic(x) : triangle(x);
    }
    for (int64_t t = 0; t < count; ++t) {
      const double share = (sum != 0 ? weight[t] / sum : weight[t]) * (1 << FRACTION_BITS);
      const int32_t whole = int32_t(share < 0 ? share - 0.5 : share + 0.5);
      taps.high[i * taps.room + t] = int16_t(whole >> LOW_BITS);
      taps.low[i * taps.room + t] = int16_t(whole & ((1 << LOW_BITS) - 1));
    }
    taps.first.push_back(first), taps.count.push_back(count);
  }
  return taps;
}

int32_t weight_of(int16_t high, int16_t low) { return int32_t(high) * (1 << LOW_BITS) + low; }

uint8_t rounded(int32_t sum) {
  return uint8_t(std::clamp((sum + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS, 0, 255));
}

void across(const uint8_t* from, int64_t stride, int64_t rows, const Taps& taps, uint8_t* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (size_t i = 0; i < taps.first.size(); ++i) {
      const uint8_t* pixel = from + r * stride + 4 * taps.first[i];
      int32_t sum[3] = {};
      for (int64_t t = 0, at = i * taps.room; t < taps.count[i]; ++t, ++at, pixel += 4)
        for (int c = 0; c < 3; ++c) sum[c] += weight_of(taps.high[at], taps.low[at]) * pixel[c];
      for (int c = 0; c < 3; ++c) out[r * out_stride + 3 * i + c] = rounded(sum[c]);
    }
}

void down(const uint8_t* from, int64_t stride, int64_t count, const int16_t* high, const int16_t* low, int64_t width,
          uint8_t* out) {
  constexpr int LANES = 16;  // sums that stay in registers
  for (int64_t x = 0; x < width; x += LANES) {
    int32_t sum[LANES] = {};
    for (int64_t t = 0; t < count; ++t)
      for (int l = 0; l < LANES; ++l) sum[l] += weight_of(high[t], low[t]) * from[t * stride + x + l];
    for (int l = 0; l < LANES; ++l) out[x + l] = rounded(sum[l]);
  }
}

}  // namespace

const Weighing weighing_base = {"base", across, down};

std::vector<const Weighing*> usable_weighings() {
  std::vector<const Weighing*> weighings;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) weighings.push_back(&weighing_avx2);
#endif
#if defined(__SSSE3__)
  weighings.push_back(&weighing_ssse3);
#endif
  weighings.push_back(&weighing_base);
  return weighings;
}

void resample(const Weighing& weighing, const Picture& picture, const Wanted& wanted, uint8_t* out) {
  const Taps columns = make_taps(picture.width, wanted.full_width, wanted.left, wanted.width, wanted.cubic);
  const Taps rows = make_taps(picture.height, wanted.full_height, wanted.top, wanted.height, wanted.cubic);
  const int64_t begin = rows.first.front(), end = rows.first.back() + rows.count.back();
  const int64_t width = 3 * wanted.width, padded = width + 32;  // bytes; see Weighing for the padding
  std::vector<uint8_t> narrow((end - begin) * padded), row(padded);
  weighing.across(picture.pixels + begin * picture.width * 4, picture.width * 4, end - begin, columns, narrow.data(),
                  padded);
  for (int64_t y = 0; y < wanted.height; ++y) {
    const int64_t at = y * rows.room;
    weighing.down(&narrow[(rows.first[y] - begin) * padded], padded, rows.count[y], &rows.high[at], &rows.low[at],
                  width, row.data());
    std::memcpy(out + y * width, row.data(), width);
  }
}

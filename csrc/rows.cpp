#include "rows.h"

#include <bit>
#include <cmath>
#include <vector>

#include "parallel.h"

namespace {

constexpr int64_t GRAIN = 1024;
constexpr float MAX_SQUARED_NORM = 1e37f;  // |x-y|^2 <= 2|x|^2 + 2|y|^2 has to stay a float32

float dot(const float* x, const float* y, int64_t d) {
  float lane[16] = {};
  int64_t p = 0;
  for (; p + 16 <= d; p += 16)
    for (int l = 0; l < 16; ++l) lane[l] += x[p + l] * y[p + l];
  for (int l = 0; p < d; ++p, ++l) lane[l] += x[p] * y[p];
  float sum = 0;
  for (float s : lane) sum += s;
  return sum;
}

// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

void find_bad_rows(const Source& rows, int threads, const std::atomic<bool>& stop, uint8_t* bad) {
  const Kernel& kernel = *usable_kernels().front();
  parallel_rows(rows.n, GRAIN, threads, [&](int64_t begin, int64_t end) {
    if (stop.load(std::memory_order_relaxed)) return;
    std::vector<float> scratch(rows.d);
    for (int64_t i = begin; i < end; ++i) {
      const float* row = rows.row(i, scratch.data(), kernel);
      bad[i] = !(dot(row, row, rows.d) <= MAX_SQUARED_NORM);  // NaN fails every comparison
    }
  });
}

uint64_t hash_row(const float* row, int64_t d, uint64_t salt) {
  uint64_t lane[4] = {1 + salt, 2 + salt, 3 + salt, 4 + salt};  // four chains hide the multiplications' latency
  for (int64_t p = 0; p < d; ++p) {
    const uint64_t value = std::bit_cast<uint32_t>(row[p] + 0.0f);
    lane[p % 4] = std::rotl(lane[p % 4] ^ value, 29) * 0x9e3779b97f4a7c15u + uint64_t(p);
  }
  return mix(mix(mix(mix(lane[0]) ^ lane[1]) ^ lane[2]) ^ lane[3]);
}

void hash_rows(const Source& rows, int threads, const std::atomic<bool>& stop, uint64_t* hash) {
  const Kernel& kernel = *usable_kernels().front();
  parallel_rows(rows.n, GRAIN, threads, [&](int64_t begin, int64_t end) {
    if (stop.load(std::memory_order_relaxed)) return;
    std::vector<float> scratch(rows.d);
    for (int64_t i = begin; i < end; ++i) hash[i] = hash_row(rows.row(i, scratch.data(), kernel), rows.d, 0);
  });
}

void mean_cosine(const Rows& a, const Rows& b, const int64_t* index, int64_t k, double* out) {
  std::vector<float> length(b.n);
  parallel_rows(b.n, GRAIN, a.threads, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) length[j] = std::sqrt(dot(b.data + j * b.d, b.data + j * b.d, b.d));
  });
  parallel_rows(a.n, GRAIN, a.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = a.data + i * a.d;
      const double own = std::sqrt(dot(row, row, a.d));
      double sum = 0;
      int64_t used = 0;
      for (int64_t r = 0; r < k; ++r) {
        const int64_t j = index[i * k + r];
        if (j < 0) continue;
        const double scale = own * length[j];
        sum += scale > 0 ? dot(row, b.data + j * b.d, a.d) / scale : 0.0;
        ++used;
      }
      out[i] = used ? sum / used : 0.0;
    }
  });
}

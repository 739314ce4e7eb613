// clipscan/knn.hpp: what clipscan/engine does around the core in Python, checks and the codebook, in C++.
#include "clipscan/knn.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>
#include <thread>

#include "../knn.h"
#include "../rows.h"

namespace clipscan {
namespace {

constexpr int64_t MAX_K = 1 << 16, SAMPLE = 1024;  // of clipscan/engine/cpu.py and codebook.py
constexpr int64_t ROW_MEMORY = 164, FIXED_MEMORY = 32 << 20;
constexpr double UNCLIPPED = 0.995, MOST = 0.9, FAR = 2.0;
const std::atomic<bool> never{false};

Source source_of(const Rows& rows) {
  Source source;
  source.n = rows.n, source.d = rows.d;
  source.parts = {{reinterpret_cast<const char*>(rows.data), Type::float32, 0, rows.n, rows.d * 4, 4}};
  return source;
}

void check(const Rows& rows, int threads) {
  if (rows.d < 1 || rows.d > MAX_WIDTH)
    throw std::invalid_argument("rows must have a width of 1 to 16384, got " + std::to_string(rows.d));
  std::vector<uint8_t> bad(rows.n);
  find_bad_rows(source_of(rows), threads, never, bad.data());
  const auto first = std::find(bad.begin(), bad.end(), 1);
  if (first != bad.end())
    throw std::invalid_argument("row " + std::to_string(first - bad.begin()) +
                                " holds NaN or infinity, or a norm above 3e18; remove or repair it");
}

void check_k(int64_t k, int64_t most) {
  if (k < 1 || k > std::min(most, MAX_K))
    throw std::invalid_argument("k must lie between 1 and " + std::to_string(std::min(most, MAX_K)) + ", got " +
                                std::to_string(k));
}

// Rows evenly spaced over the set. Any codebook gives the same table; a good one discards more pairs.
void sample(const Rows& rows, int64_t count, std::vector<const float*>& into) {
  const int64_t taken = std::min(rows.n, count);
  for (int64_t s = 0; s < taken; ++s) into.push_back(rows.data + s * rows.n / taken * rows.d);
}

Codebook fit(const std::vector<const float*>& rows, int64_t d, const Kernel& kernel) {
  const int64_t width = (d + 3) / 4 * 4;
  Codebook book{std::vector<float>(d), std::vector<float>(2 * width), 1.0f};
  std::vector<float> column(rows.size());
  for (int64_t p = 0; p < d && !rows.empty(); ++p) {
    for (size_t i = 0; i < rows.size(); ++i) column[i] = rows[i][p];
    const auto middle = column.begin() + column.size() / 2;
    std::nth_element(column.begin(), middle, column.end());
    book.centre[p] = *middle;
  }
  uint64_t state = 20260;
  for (float& sign : book.sign) {  // the top bit of Knuth's linear congruential generator
    state = state * 6364136223846793005u + 1442695040888963407u;
    sign = state >> 63 ? 1.0f : -1.0f;
  }

  std::vector<float> largest, y(width + 32);
  std::vector<int8_t> code(width + 32);
  for (const float* row : rows) {
    kernel.encode(row, book.rotation(), y.data(), code.data());  // leaves the rotated row in y
    float reach = 0;
    for (int64_t p = 0; p < width; ++p) reach = std::max(reach, std::abs(y[p]));
    if (reach > 0) largest.push_back(reach);
  }
  if (largest.empty()) return book;
  std::sort(largest.begin(), largest.end());
  const auto quantile = [&](double share) { return double(largest[size_t(share * double(largest.size() - 1))]); };
  book.gain = float(std::min(127.0 / std::min(quantile(UNCLIPPED), FAR * quantile(MOST)), 1e30));
  return book;
}

int threads_of(const Options& options) {
  return options.threads > 0 ? options.threads : std::max(1, int(std::thread::hardware_concurrency()));
}

Table table(int64_t n, int64_t k) { return {n, k, std::vector<float>(n * k), std::vector<int64_t>(n * k)}; }

}  // namespace

Table knn(const Rows& rows, int64_t k, const Options& options) {
  const int threads = threads_of(options);
  check_k(k, rows.n - 1);
  check(rows, threads);
  const Kernel& kernel = *usable_kernels().front();
  std::vector<const float*> some;
  sample(rows, SAMPLE, some);
  const Codebook book = fit(some, rows.d, kernel);
  const int64_t memory = std::max(options.memory, ROW_MEMORY * rows.n + FIXED_MEMORY);
  Table out = table(rows.n, k);
  knn_within({&kernel, &book, k, threads, memory, &never}, source_of(rows), out.distance.data(), out.index.data());
  return out;
}

Table knn(const Rows& queries, const Rows& reference, int64_t k, const Options& options) {
  const int threads = threads_of(options);
  if (queries.d != reference.d) throw std::invalid_argument("queries and reference rows differ in width");
  check_k(k, reference.n);
  check(queries, threads);
  check(reference, threads);
  const Kernel& kernel = *usable_kernels().front();
  std::vector<const float*> some;
  sample(queries, SAMPLE / 2, some);
  sample(reference, SAMPLE / 2, some);
  const Codebook book = fit(some, reference.d, kernel);
  Table out = table(queries.n, k);
  const std::vector<Span> spans{{0, reference.n, out.distance.data(), out.index.data()}};
  knn_between({&kernel, &book, k, threads, options.memory, &never}, source_of(queries), source_of(reference), nullptr,
              nullptr, spans);
  return out;
}

}  // namespace clipscan

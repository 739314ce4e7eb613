// The exact search without Python: find_package(clipscan), link clipscan::clipscan. C++17 or newer.
#pragma once
#include <cstdint>
#include <vector>

#if defined(__GNUC__)
#define CLIPSCAN_PUBLIC __attribute__((visibility("default")))
#else
#define CLIPSCAN_PUBLIC
#endif

namespace clipscan {

// n rows of width d, one after the other; the numbers stay the caller's.
struct Rows {
  const float* data;  // [n, d]
  int64_t n, d;
};

// The k nearest rows of the reference for each of n rows, in order of (distance, index).
struct Table {
  int64_t n, k;
  std::vector<float> distance;  // [n, k], Euclidean
  std::vector<int64_t> index;   // [n, k], rows of the reference
};

struct Options {
  int threads = 0;                       // 0: as many as the machine has
  int64_t memory = int64_t{1} << 30;     // bytes to work in; a search among n rows takes at least 164 n + 32 MiB
};

// All rows among themselves, none its own neighbour (by number: a copy of a row is one). The table of
// clipscan.knn(rows, k=k), bit for bit. std::invalid_argument for k < 1 or k >= n, d < 1 or d > 16384, and for
// rows with NaN, infinity or a norm above 3e18.
CLIPSCAN_PUBLIC Table knn(const Rows& rows, int64_t k, const Options& options = {});

// Queries [n, d] among the rows of a reference [m, d]; std::invalid_argument also for k > m and another width.
CLIPSCAN_PUBLIC Table knn(const Rows& queries, const Rows& reference, int64_t k, const Options& options = {});

}  // namespace clipscan

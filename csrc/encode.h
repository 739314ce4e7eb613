// Step 1 of the search: rows -> int8 codes in panels, with a bound on what the codes leave out.
//
// A row x becomes y = c R (x - centre), with one rotation R and one factor c for all rows, and q = y rounded
// to integers in [-127, 127]; `error` is at least |y - q|. Distances keep their ratios under R and c, so
//     | c |x_i - x_j|  -  |q_i - q_j| |  <=  error_i + error_j                         (triangle inequality)
// and |q_i - q_j|^2 = |q_i|^2 + |q_j|^2 - 2 q_i.q_j is a sum of integers, exact. That is all of the proof.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "kernel.h"
#include "source.h"

// How rows become codes: fitted once for a search, see clipscan/engine/codebook.py.
struct Codebook {
  std::vector<float> centre;  // [d]
  std::vector<float> sign;    // [2, width]
  float gain;
  Rotation rotation() const;
  double factor() const;      // c: code units per unit of distance
};

// Rows [begin, end) of a panel's columns take part, the others are as padding.
struct Columns {
  int64_t panel, begin, end;  // begin and end count from the first row of the reference
};

struct FreeBytes {
  void operator()(void* at) const { ::operator delete[](at, std::align_val_t(64)); }
};
using Bytes = std::unique_ptr<uint8_t[], FreeBytes>;  // from a cache line's start: no load crosses two

inline Bytes aligned_bytes(int64_t count) {
  return Bytes(new (std::align_val_t(64)) uint8_t[size_t(std::max<int64_t>(1, count))]);
}

// An error that nine of ten do not exceed: taken for all of those, it spares telling them apart.
inline float usual_error(const float* errors, int64_t count) {
  std::vector<float> sorted(errors, errors + count);
  const auto most = sorted.begin() + count * 9 / 10;
  std::nth_element(sorted.begin(), most, sorted.end());
  return count ? *most : 0.0f;
}

struct Codes {
  const Kernel* kernel;
  int64_t n, width, groups;                      // groups hold at least `width` codes, zeros after them
  Bytes panels;                                  // [panel_count][groups][nr][group]
  std::array<std::vector<int32_t>, STOPS> norm;  // |q|^2 over the codes up to each stop
  std::array<std::vector<int32_t>, STOPS> base;  // |q|^2 / 2 + offset * sum of q, likewise
  std::vector<float> error;
  std::vector<float> panel_error;                // the largest in each panel

  Codes(const Kernel& kernel, const Codebook& book, int64_t n);
  int64_t panel_count() const { return (n + kernel->nr - 1) / kernel->nr; }
  int64_t panel_bytes() const { return groups * kernel->nr * kernel->group; }
  const uint8_t* panel(int64_t number) const { return panels.get() + number * panel_bytes(); }

  // Fills panels [from, to). Rows [0, n) are rows first, first + 1, ... of the source, or rows which[0], which[1],
  // ... where that is given; workspace grows as needed.
  void encode(const Source& source, const uint32_t* which, int64_t first, const Codebook& book, int64_t from,
              int64_t to, std::vector<float>& workspace);

  // Rows [first, first + mr) as packed words [groups / step][mr][step]; rows past the end are zeros.
  void pack(int64_t first, int32_t* words) const;

  // The start values [STOPS][nr] of a panel's tiles.
  void starts(const Columns& columns, int32_t* start) const;

  // An error that no row of the panel exceeds, the same for most panels; known after settle_errors().
  float filter_error(int64_t panel) const { return std::max(panel_error[panel], usual_); }
  void settle_errors() { usual_ = usual_error(panel_error.data(), panel_count()); }

 private:
  float usual_ = 0;
};

// The error that rounding alone leaves is about sqrt(width / 12); rows that were clipped exceed twice that.
inline float ordinary_error(int64_t width) { return std::sqrt(float(width) / 3.0f) + 1.0f; }

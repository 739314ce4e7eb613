// Step 3 of the search: candidates -> limits, measured distances, the k nearest of each query.
//
// A row holds a limit, the k best rows measured so far, and candidates that wait to be measured. The
// limit is a distance in code units that none of its k nearest exceeds; it only ever falls, so a stale
// copy of it is safe. A full buffer is first tightened by the bounds of encode.h, which touches no
// original row; only when that does not help are candidates measured before the end.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "encode.h"
#include "source.h"

constexpr float NOBODY = std::numeric_limits<float>::infinity();

// A measured neighbour as one number that sorts by (distance, index): float bits above, row number below.
using Key = uint64_t;
constexpr Key NO_KEY = Key(0x7f800000) << 32 | 0xffffffff;
inline Key key_of(float distance, uint32_t row) { return Key(std::bit_cast<uint32_t>(distance)) << 32 | row; }
inline float distance_of(Key key) { return std::bit_cast<float>(uint32_t(key >> 32)); }
inline uint32_t row_of(Key key) { return uint32_t(key); }

// One side of a search: its original rows and their codes. Position p is row which[p], or first + p.
struct Side {
  const Source* source;
  const Codes* codes;
  const uint32_t* which;
  int64_t first;
  int64_t row(int64_t position) const { return which ? which[position] : first + position; }
};

// From reported distances to code units and back, rounding outwards. A direct-form float32 distance is
// within `relative` and `absolute` of the true one.
struct Units {
  double factor, relative, absolute;
  Units(const Codebook& book, int64_t d);
  float limit_of_distance(float measured) const {
    return float((measured * (1 + 2 * relative) + 2 * absolute) * factor * (1 + 1e-6));
  }
  float limit_of_bound(float upper) const {
    return float((upper * (1 + 3 * relative) + 3 * absolute * factor) * (1 + 1e-6));
  }
};

struct Candidate {
  float delta;        // |q_i - q_j|
  uint32_t position;  // in the reference
};

// What one thread needs to work on any row, scratch mostly, and what it counts.
struct Workbench {
  explicit Workbench(int64_t d) : query(d), other(4 * d) {}
  std::vector<float> query, other, upper;
  std::vector<Key> keys;
  int64_t passed = 0, measured = 0;
};

class Candidates {
 public:
  // best [n, k] is the caller's: keys, sorted; it holds the answer once every row is finished.
  Candidates(const Side& queries, const Side& reference, const Units& units, int64_t n, int64_t k, int64_t capacity,
             Key* best);

  void reset(int64_t rows);
  float limit(int64_t i) const { return limit_[i].load(std::memory_order_relaxed); }
  void lower(int64_t i, float limit);
  void push(int64_t i, Candidate candidate, Workbench& bench);
  void settle(int64_t i, Workbench& bench);  // measures the k that look nearest: the limit becomes a true distance
  void finish(int64_t i, Workbench& bench);  // measures all that are left: best is the answer
  const Key* best(int64_t i) const { return best_ + i * k_; }

 private:
  void tighten(int64_t i, Workbench& bench);
  void measure(int64_t i, Candidate* from, int64_t count, Workbench& bench);
  int64_t keep_within_limit(int64_t i, Candidate* from, int64_t count) const;

  const Side queries_, reference_;
  const Units units_;
  const int64_t k_, capacity_;
  Key* const best_;
  std::unique_ptr<std::atomic<float>[]> limit_;
  std::vector<uint32_t> count_;
  std::unique_ptr<Candidate[]> waiting_;  // [n, capacity]
};

// The memory of rows at work, and how it is begun.
#include "side.h"

#include <algorithm>

namespace gpu {

namespace {

constexpr int64_t MIN_CAPACITY = 256;   // candidates that a row can hold: the columns of the largest tile, all of which may come
constexpr int64_t MAX_CAPACITY = 4096;  // refine sorts as many in shared memory

int64_t least_capacity(int64_t k) { return std::max(MIN_CAPACITY, (2 * k + 31) / 32 * 32); }
int64_t row_memory(int64_t capacity, int64_t k) { return 8 * capacity + 8 * k + 4 * 5; }

}  // namespace

// Candidates of a row: of clustered rows some 25 k come at most in a round. `python bench/rounds.py --capacity C` follows rows
// through the rounds: with 16 k most of them overflow, with 32 k none.
int64_t capacity_for(const SearchTask& task, int64_t rows) {
  const int64_t least = least_capacity(task.k), most = std::clamp(32 * task.k, MIN_CAPACITY, MAX_CAPACITY);
  const int64_t fit = (task.memory / std::max<int64_t>(rows, 1) - row_memory(0, task.k)) / 8 / 32 * 32;
  return std::clamp(fit, least, std::max(least, most));
}

int64_t least_row_memory(int64_t k) { return row_memory(least_capacity(k), k); }

Side::Side(const Loaded& rows, Range range, int64_t capacity, int64_t k)
    : rows(rows), range(range), limit_(rows.device(), range.size()), count_(rows.device(), 2 * range.size()),
      waiting_(rows.device(), range.size() * capacity), best_(rows.device(), range.size() * k) {
  state = {limit_.data(), count_.data(), count_.data() + range.size(), waiting_.data(), best_.data(), range.begin,
           range.size(), int(capacity), int(k)};
}

void Side::reset(const float* distance) {
  Buffer<float> known;
  if (distance) {
    known = Buffer<float>(rows.device(), range.size());
    known.upload(distance, range.size());
  }
  gpu::reset(state, known.data(), rows.units(), rows.device()->stream);
  rows.device()->wait();  // `distance` is the caller's
}

Table Side::table(int64_t origin) const {
  Table out{{rows.device(), state.n * state.k}, {rows.device(), state.n * state.k}};
  write_table(state, origin, out.distance.data(), out.index.data(), rows.device()->stream);
  return out;
}

}  // namespace gpu

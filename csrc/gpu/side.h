// Rows at work on a device: their limits, candidates and best, and how many candidates a row can hold.
#pragma once
#include "search.h"

namespace gpu {

// Candidates that each of `rows` rows can hold, from the budget of the task.
int64_t capacity_for(const SearchTask& task, int64_t rows);

// The queries at work on the device, with their state.
class Side {
 public:
  Side(const Loaded& rows, Range range, int64_t capacity, int64_t k);

  // Back to knowing nothing but the given distances [n] on the host.
  void reset(const float* distance);

  Table table(int64_t origin) const;

  const Loaded& rows;
  const Range range;
  State state;

 private:
  Buffer<float> limit_;
  Buffer<uint32_t> count_;  // and kept, behind it
  Buffer<uint64_t> waiting_, best_;
};

}  // namespace gpu

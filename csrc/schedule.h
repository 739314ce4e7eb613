// What both schedules and the layout share: how rows are cut into blocks, encoded, and stopped; what a search may hold
// and what it counts.
#pragma once
#include <algorithm>
#include <atomic>
#include <vector>

#include "encode.h"
#include "knn.h"
#include "parallel.h"
#include "refine.h"

constexpr int64_t BLOCK_BYTES = 192 << 10;  // packed codes of a block: they stay in L2 while panels pass by
constexpr int64_t MAX_BLOCK = 4 * BLOCK_UNIT;
constexpr int64_t MIN_WAITING = 8;          // candidates a row can hold, however small the budget
constexpr int64_t ROW_MEMORY = 100;         // bytes of all else that is kept for a row
constexpr int64_t FIXED_MEMORY = 32 << 20;  // bytes of what does not grow with the rows

inline void check(const KnnTask& task) {
  if (task.stop->load(std::memory_order_relaxed)) throw Stopped{};
}

// Rows of a block: as many as fit, fewer where threads would otherwise idle.
inline int64_t block_rows(const KnnTask& task, int64_t n) {
  const int64_t width = int64_t(task.book->sign.size()) / 2;
  const int64_t fit = std::clamp<int64_t>(BLOCK_BYTES / width / BLOCK_UNIT * BLOCK_UNIT, BLOCK_UNIT, MAX_BLOCK);
  const int64_t share = std::max<int64_t>(1, n / (4 * task.threads));
  return std::min(fit, (share + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT);
}

// The panels of reference rows [begin, end).
inline std::vector<Columns> panels_of(int64_t begin, int64_t end, int64_t nr) {
  std::vector<Columns> out;
  for (int64_t panel = begin / nr; begin < end && panel * nr < end; ++panel) out.push_back({panel, begin, end});
  return out;
}

// Codes of a block: positions [begin, end) of which, or of the source where that is null.
inline Codes encode_block(const KnnTask& task, const Source& source, const uint32_t* which, int64_t begin,
                          int64_t end) {
  check(task);
  Codes codes(*task.kernel, *task.book, end - begin);
  std::vector<float> workspace;
  codes.encode(source, which ? which + begin : nullptr, begin, *task.book, 0, codes.panel_count(), workspace);
  return codes;
}

// Codes of n rows, by all threads: of rows which[0], which[1], ... where that is given.
inline Codes encode_all(const KnnTask& task, const Source& source, const uint32_t* which, int64_t n) {
  Codes codes(*task.kernel, *task.book, n);
  parallel_rows(codes.panel_count(), 16, task.threads, [&](int64_t from, int64_t to) {
    check(task);
    std::vector<float> workspace;
    codes.encode(source, which, 0, *task.book, from, to, workspace);
  });
  codes.settle_errors();
  return codes;
}

// Candidates that each of `rows` rows at work may keep waiting, from the budget. More than a few times k would
// only delay the next, tighter limit.
inline int64_t waiting_capacity(const KnnTask& task, int64_t rows) {
  const int64_t bytes = (task.memory - FIXED_MEMORY) / std::max<int64_t>(1, rows) - ROW_MEMORY;
  return std::clamp<int64_t>(bytes / int64_t(sizeof(Candidate)), MIN_WAITING, 4 * task.k + 64);
}

// What the threads of a search counted, put together.
class Total {
 public:
  void add(const Workbench& bench) { passed_ += bench.passed, measured_ += bench.measured; }
  Counts counts() const { return {passed_, measured_}; }

 private:
  std::atomic<int64_t> passed_{0}, measured_{0};
};

// The schedule of a self-search. Products are symmetric, so a tile (I, J) with J before I serves the rows of both. Rows
// are laid out so that near ones tend to stand together, and blocks meet their surroundings first: limits are then tight
// before the long walk over everything else begins. What concerns a row is logged by the thread that found it and handed
// over under the lock of the row's panel.
#include <algorithm>
#include <mutex>

#include "copies.h"
#include "filter.h"
#include "knn.h"
#include "layout.h"
#include "parallel.h"
#include "refine.h"
#include "schedule.h"

namespace {

constexpr int64_t CHUNK = 1024;  // panels that a task walks

struct Hit {
  uint32_t row;
  Candidate candidate;
};

// A panel's rows change under its lock.
class Shared {
 public:
  Shared(Candidates& candidates, int64_t panels, int64_t nr) : candidates_(candidates), nr_(nr), lock_(panels) {}

  void take(std::vector<Hit>& log, Workbench& bench) {
    for (size_t h = 0; h < log.size();) {
      const int64_t panel = log[h].row / nr_;
      std::lock_guard<std::mutex> hold(lock_[panel]);
      for (; h < log.size() && log[h].row / nr_ == panel; ++h) candidates_.push(log[h].row, log[h].candidate, bench);
    }
    log.clear();
  }

 private:
  Candidates& candidates_;
  const int64_t nr_;
  std::vector<std::mutex> lock_;
};

struct BlockWalk {
  Filter filter;
  Workbench bench;
  std::vector<Hit> row_log{}, column_log{};
  void row(int64_t i, Candidate it) {
    if (int64_t(it.position) != i) row_log.push_back({uint32_t(i), it});
  }
  void column(int64_t j, Candidate it) { column_log.push_back({uint32_t(j), it}); }
};

// keys[order[p]] = what keys[p] was, in place.
void restore_order(Key* keys, std::vector<uint32_t>& order, int64_t k) {
  for (int64_t p = 0; p < int64_t(order.size()); ++p)
    while (int64_t(order[p]) != p) {
      const int64_t to = order[p];
      std::swap_ranges(keys + p * k, keys + (p + 1) * k, keys + to * k);
      std::swap(order[p], order[to]);
    }
}

}  // namespace

Counts knn_within(const KnnTask& task, const Source& rows, float* distance, int64_t* index) {
  const Kernel& kernel = *task.kernel;
  const int64_t k = task.k, nr = kernel.nr;
  const Units units(*task.book, rows.d);
  const Copies copies(task, rows);
  const int64_t n = copies.n();  // different rows

  Layout layout = lay_out(task, rows, copies.which(), n, units);
  std::vector<uint32_t> which(n);  // position -> row
  for (int64_t p = 0; p < n; ++p) which[p] = copies.which() ? copies.which()[layout.order[p]] : layout.order[p];
  const Codes codes = encode_all(task, rows, which.data(), n);
  const Side side{&rows, &codes, which.data(), 0};

  // The answer's own memory holds the best so far: keys where indices will be.
  Key* const best = reinterpret_cast<Key*>(index);
  Candidates candidates(side, side, units, n, k, waiting_capacity(task, n), best);
  Shared shared(candidates, codes.panel_count(), nr);
  for (int64_t p = 0; p < n; ++p) {
    const uint32_t before = layout.order[p];
    candidates.lower(p, copies.count(before) > k ? units.limit_of_distance(0.0f) : layout.limit[before]);
  }

  const int64_t block = block_rows(task, n), blocks = (n + block - 1) / block, panels_a_block = block / nr;
  Total total;
  auto walk = [&](int64_t b, int64_t from_panel, int64_t to_panel) {  // backwards: near rows first
    const int64_t begin = b * block, end = std::min(n, begin + block);
    BlockWalk it{Filter(codes, block, 1), Workbench(rows.d)};
    it.filter.load(codes, begin, end - begin);
    for (int64_t panel = to_panel; panel-- > from_panel;) {
      check(task);
      it.filter.visit({panel, 0, n}, std::max(panel - 1, from_panel), candidates, panel * nr < begin, it);
      shared.take(it.column_log, it.bench);
      shared.take(it.row_log, it.bench);
    }
    total.add(it.bench);
  };
  auto each_row = [&](auto work) {
    parallel_rows(n, 256, task.threads, [&](int64_t begin, int64_t end) {
      check(task);
      Workbench bench(rows.d);
      for (int64_t i = begin; i < end; ++i) work(i, bench);
      total.add(bench);
    });
  };

  // First a row's surroundings: its own block and the one before; for strays, all strays.
  const int64_t strays = layout.strays / block;
  auto surroundings = [&](int64_t b) { return std::max<int64_t>(0, b > strays ? strays : b - 1) * panels_a_block; };
  parallel_for(blocks, task.threads, [&](int64_t turn) {
    const int64_t b = blocks - 1 - turn;  // long walks first
    walk(b, surroundings(b), std::min((b + 1) * panels_a_block, codes.panel_count()));
  });
  each_row([&](int64_t i, Workbench& bench) { candidates.settle(i, bench); });

  // Then all else, cut into chunks so that the last ones end together.
  std::vector<std::pair<int64_t, int64_t>> walks;  // (block, panels before it that are left)
  for (int64_t b = blocks - 1; b > 0; --b)
    for (int64_t left = surroundings(b); left > 0; left -= CHUNK) walks.push_back({b, left});
  parallel_for(walks.size(), task.threads, [&](int64_t w) {
    const auto [b, left] = walks[w];
    walk(b, std::max<int64_t>(0, left - CHUNK), left);
  });
  each_row([&](int64_t i, Workbench& bench) { candidates.finish(i, bench); });

  restore_order(best, layout.order, k);
  copies.write(best, k, distance, index, task.threads);
  return total.counts();
}

// The two schedules of the search.
//
// between: a thread owns a block of queries and walks the reference, span by span.
// within: products are symmetric, so a tile (I, J) with J before I serves the rows of both. Rows are laid out
//   so that near ones tend to stand together, and blocks meet their surroundings first: limits are then
//   tight before the long walk over everything else begins. What concerns a row is logged by the thread
//   that found it and handed over under the lock of the row's panel.
#include "knn.h"

#include <mutex>
#include <numeric>

#include "copies.h"
#include "filter.h"
#include "layout.h"
#include "parallel.h"
#include "refine.h"
#include "schedule.h"

namespace {

constexpr int64_t MIN_WAITING = 8;          // candidates a row can hold, however small the budget
constexpr int64_t ROW_MEMORY = 100;         // bytes of all else that is kept for a row
constexpr int64_t FIXED_MEMORY = 32 << 20;  // bytes of what does not grow with the rows
constexpr int64_t CHUNK = 1024;             // panels that a task walks
constexpr int64_t OPENING = 1024;           // rows of a reference that give a query its first limit

// Candidates that each of `rows` rows at work may keep waiting, from the budget. More than a few times k would
// only delay the next, tighter limit.
int64_t waiting_capacity(const KnnTask& task, int64_t rows) {
  const int64_t bytes = (task.memory - FIXED_MEMORY) / std::max<int64_t>(1, rows) - ROW_MEMORY;
  return std::clamp<int64_t>(bytes / int64_t(sizeof(Candidate)), MIN_WAITING, 4 * task.k + 64);
}

// Panels looked at twice (Filter::open): enough for a k-th best that means something. One more, as a span may
// begin within a panel.
int64_t opening_panels(const KnnTask& task, const Codes& reference) {
  const int64_t rows = std::max(OPENING, 12 * task.k);
  return std::min(rows / task.kernel->nr + 2, reference.panel_count());
}

class Total {
 public:
  void add(const Workbench& bench) { passed_ += bench.passed, measured_ += bench.measured; }
  Counts counts() const { return {passed_, measured_}; }

 private:
  std::atomic<int64_t> passed_{0}, measured_{0};
};

// ---- between

// Reference rows by identity, to find the one that a query must not meet.
class Identities {
 public:
  Identities(const int64_t* query, const int64_t* reference, int64_t m) : query_(query), reference_(reference) {
    if (!query) return;
    sorted_.resize(m);
    std::iota(sorted_.begin(), sorted_.end(), 0);
    std::sort(sorted_.begin(), sorted_.end(),
              [&](int64_t a, int64_t b) { return std::pair(reference[a], a) < std::pair(reference[b], b); });
  }
  bool equal(int64_t i, int64_t j) const { return query_ && query_[i] == reference_[j]; }

  // Rows of [begin, end) with the identity of query i: how many, and the first.
  std::pair<int64_t, int64_t> of(int64_t i, int64_t begin, int64_t end) const {
    if (!query_) return {0, -1};
    auto at = [&](int64_t row) {
      return std::lower_bound(sorted_.begin(), sorted_.end(), std::pair(query_[i], row),
                              [&](int64_t a, const std::pair<int64_t, int64_t>& key) {
                                return std::pair(reference_[a], a) < key;
                              });
    };
    const auto from = at(begin), to = at(end);
    return {to - from, from < to ? *from : -1};
  }

 private:
  const int64_t *query_, *reference_;
  std::vector<int64_t> sorted_;
};

}  // namespace

Counts knn_between(const KnnTask& task, const Source& queries, const Source& reference, const int64_t* query_id,
                   const int64_t* reference_id, const std::vector<Span>& spans) {
  const Kernel& kernel = *task.kernel;
  const Units units(*task.book, reference.d);
  const Codes codes = encode_all(task, reference, nullptr, reference.n);
  const Identities identities(query_id, reference_id, reference.n);
  const int64_t k = task.k, rows = block_rows(task, queries.n), opening = opening_panels(task, codes);
  Total total;

  parallel_rows(queries.n, rows, task.threads, [&](int64_t begin, int64_t end) {
    const Codes own = encode_block(task, queries, nullptr, begin, end);
    Filter filter(codes, rows, opening);
    filter.load(own, 0, end - begin);

    std::vector<Key> best((end - begin) * k);
    const Side side{&queries, &own, nullptr, begin}, other{&reference, &codes, nullptr, 0};
    Candidates candidates(side, other, units, end - begin, k, waiting_capacity(task, rows * task.threads), best.data());
    Workbench bench(reference.d);
    struct {
      const Identities& identities;
      Candidates& candidates;
      Workbench& bench;
      int64_t begin;
      void row(int64_t i, Candidate it) {
        if (!identities.equal(begin + i, it.position)) candidates.push(i, it, bench);
      }
      void column(int64_t, Candidate) {}
    } sink{identities, candidates, bench, begin};

    int64_t done = 0;
    for (size_t s = 0; s < spans.size(); ++s) {
      const Span& span = spans[s];
      if (s == 0 || span.begin != spans[s - 1].begin) {
        candidates.reset(end - begin);
        done = span.begin;
        std::vector<Columns> first = panels_of(span.begin, span.end, kernel.nr);
        if (int64_t(first.size()) > opening) first.resize(opening);
        filter.open(first, k, candidates, [&](int64_t i) { return identities.of(begin + i, span.begin, span.end); },
                  [&](int64_t i) { candidates.settle(i, bench); }, sink);
        done = std::min(span.end, (first.back().panel + 1) * kernel.nr);
      }
      for (const Columns& columns : panels_of(done, span.end, kernel.nr)) {
        check(task);
        filter.visit(columns, std::min(columns.panel + 1, codes.panel_count() - 1), candidates, false, sink);
      }
      done = span.end;
      for (int64_t i = 0; i < end - begin; ++i) {
        candidates.finish(i, bench);
        write_keys(candidates.best(i), k, span.begin, span.distance + (begin + i) * k, span.index + (begin + i) * k);
      }
    }
    total.add(bench);
  });
  return total.counts();
}

// ---- within

namespace {

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

struct Worker {
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
    Worker it{Filter(codes, block, 1), Workbench(rows.d)};
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

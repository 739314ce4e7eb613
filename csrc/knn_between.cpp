// The schedule of a search between two sets: a thread owns a block of queries and walks the reference, span by span.
#include <algorithm>
#include <numeric>

#include "copies.h"
#include "filter.h"
#include "knn.h"
#include "parallel.h"
#include "refine.h"
#include "schedule.h"

namespace {

constexpr int64_t OPENING = 1024;  // rows of a reference that give a query its first limit

// Panels looked at twice (Filter::open): enough for a k-th best that means something. One more, as a span may
// begin within a panel.
int64_t opening_panels(const KnnTask& task, const Codes& reference) {
  const int64_t rows = std::max(OPENING, 12 * task.k);
  return std::min(rows / task.kernel->nr + 2, reference.panel_count());
}

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

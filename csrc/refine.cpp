#include "refine.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

Units::Units(const Codebook& book, int64_t d)
    : factor(book.factor()), relative(double(d + 16) * (FLT_EPSILON / 2)),
      absolute(std::sqrt(double(d) * FLT_MIN)) {}  // squares of tiny differences underflow

Candidates::Candidates(const Side& queries, const Side& reference, const Units& units, int64_t n, int64_t k,
                       int64_t capacity, Key* best)
    : queries_(queries), reference_(reference), units_(units), k_(k), capacity_(capacity), best_(best),
      limit_(new std::atomic<float>[n]), count_(n), waiting_(new Candidate[n * capacity]) {
  reset(n);
}

void Candidates::reset(int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) limit_[i].store(NOBODY, std::memory_order_relaxed);
  std::fill(count_.begin(), count_.begin() + rows, 0);
  std::fill(best_, best_ + rows * k_, NO_KEY);
}

void Candidates::lower(int64_t i, float limit) {
  if (limit < limit_[i].load(std::memory_order_relaxed)) limit_[i].store(limit, std::memory_order_relaxed);
}

void Candidates::push(int64_t i, Candidate candidate, Workbench& bench) {
  Candidate* const waiting = waiting_.get() + i * capacity_;
  waiting[count_[i]++] = candidate;
  ++bench.passed;
  if (count_[i] < capacity_) return;
  tighten(i, bench);
  if (count_[i] <= capacity_ / 2) return;
  measure(i, waiting, count_[i], bench);
  count_[i] = 0;
}

void Candidates::settle(int64_t i, Workbench& bench) {
  Candidate* const waiting = waiting_.get() + i * capacity_;
  const int64_t count = keep_within_limit(i, waiting, count_[i]), ahead = std::min(count, k_);
  if (ahead < count)
    std::nth_element(waiting, waiting + ahead, waiting + count,
                     [](const Candidate& a, const Candidate& b) { return a.delta < b.delta; });
  measure(i, waiting, ahead, bench);
  const int64_t left = keep_within_limit(i, waiting + ahead, count - ahead);
  std::copy(waiting + ahead, waiting + ahead + left, waiting);
  count_[i] = uint32_t(left);
}

void Candidates::finish(int64_t i, Workbench& bench) {
  Candidate* const waiting = waiting_.get() + i * capacity_;
  if (best(i)[k_ - 1] == NO_KEY || count_[i] > 4 * k_) settle(i, bench);  // else the limit is true already
  measure(i, waiting, keep_within_limit(i, waiting, count_[i]), bench);
  count_[i] = 0;
}

// The k-th smallest upper bound among all that is known becomes the limit; who cannot be below it goes.
void Candidates::tighten(int64_t i, Workbench& bench) {
  Candidate* const waiting = waiting_.get() + i * capacity_;
  const float* const error = reference_.codes->error.data();
  const float own = queries_.codes->error[i];
  auto& upper = bench.upper;
  upper.clear();
  for (uint32_t c = 0; c < count_[i]; ++c) upper.push_back(waiting[c].delta + error[waiting[c].position]);
  for (const Key* key = best(i); key < best(i) + k_ && *key != NO_KEY; ++key)
    upper.push_back(units_.limit_of_distance(distance_of(*key)) - own);
  if (int64_t(upper.size()) < k_) return;
  std::nth_element(upper.begin(), upper.begin() + (k_ - 1), upper.end());
  lower(i, units_.limit_of_bound(upper[k_ - 1] + own));
  count_[i] = uint32_t(keep_within_limit(i, waiting, count_[i]));
}

int64_t Candidates::keep_within_limit(int64_t i, Candidate* from, int64_t count) const {
  const float* const error = reference_.codes->error.data();
  const float reach = limit(i) + queries_.codes->error[i];
  return std::remove_if(from, from + count,
                        [&](const Candidate& c) { return c.delta - error[c.position] > reach; }) - from;
}

void Candidates::measure(int64_t i, Candidate* from, int64_t count, Workbench& bench) {
  if (count == 0) return;
  const Source& source = *reference_.source;
  const Kernel& kernel = *reference_.codes->kernel;
  const int64_t d = source.d;
  const float* const query = queries_.source->row(queries_.row(i), bench.query.data(), kernel);
  constexpr int64_t AHEAD = 8;
  for (int64_t c = 0; c < std::min(count, AHEAD); ++c) source.prefetch(reference_.row(from[c].position));

  // Only what beats the k-th best so far can matter.
  Key* const best = best_ + i * k_;
  auto& keys = bench.keys;
  keys.clear();
  for (int64_t c = 0; c < count; c += 4) {
    const float* others[4];
    for (int64_t l = 0; l < 4; ++l) {
      if (c + l + AHEAD < count) source.prefetch(reference_.row(from[c + l + AHEAD].position));
      const int64_t here = std::min(c + l, count - 1);
      others[l] = source.row(reference_.row(from[here].position), bench.other.data() + l * d, kernel);
    }
    float squared[4];
    kernel.measure4(query, others, d, squared);
    for (int64_t l = 0; l < std::min<int64_t>(4, count - c); ++l) {
      const Key key = key_of(std::sqrt(squared[l]), uint32_t(reference_.row(from[c + l].position)));
      if (key < best[k_ - 1]) keys.push_back(key);
    }
  }
  bench.measured += count;
  if (keys.empty()) return;

  std::sort(keys.begin(), keys.end());
  const int64_t known = std::lower_bound(best, best + k_, NO_KEY) - best;
  keys.resize(std::min<int64_t>(k_, keys.size()));
  const int64_t added = keys.size();
  keys.insert(keys.end(), best, best + known);
  std::inplace_merge(keys.begin(), keys.begin() + added, keys.end());
  std::copy(keys.begin(), keys.begin() + std::min<int64_t>(k_, keys.size()), best);
  if (best[k_ - 1] != NO_KEY) lower(i, units_.limit_of_distance(distance_of(best[k_ - 1])));
}

// The limits by which the filter compares, and the stops that are worth a look.
#include "filter.h"

#include <functional>
#include <numeric>

namespace {

constexpr int64_t TRIAL = 256;  // tiles by which the stops are judged

// Half of a squared reach, rounded up: |q_i - q_j|^2 / 2 of a pair within reach does not exceed it.
int32_t half_square(float reach) { return int32_t(std::min(reach * reach * (0.5f + 1e-6f) + 2.0f, float(ALWAYS))); }

}  // namespace

void Filter::load(const Codes& queries, int64_t first, int64_t count) {
  first_ = first, count_ = count;
  tiles_ = (count + mr_ - 1) / mr_;
  std::fill(error_.begin(), error_.end(), 0.0f);
  for (int64_t t = 0; t < tiles_; ++t) {
    queries.pack(first + t * mr_, words(t));
    tile_error_[t] = 0;
    for (int64_t s = t * mr_; s < (t + 1) * mr_; ++s) {
      const bool here = s < count;
      for (int stop = 0; stop < STOPS; ++stop) {
        base_[stop * rows_ + s] = here ? queries.base[stop][first + s] : ABSENT;
        row_limit_[stop * rows_ + s] = ABSENT;
      }
      if (!here) continue;
      norm_[s] = queries.norm[LAST][first + s], error_[s] = queries.error[first + s];
      tile_error_[t] = std::max(tile_error_[t], error_[s]);
    }
  }
  // Most tiles share one error, so that most limits are computed once.
  const float usual = usual_error(tile_error_.data(), tiles_);
  for (int64_t t = 0; t < tiles_; ++t) tile_error_[t] = std::max(tile_error_[t], usual);
  limits_error_ = -1, age_ = 0;
  stops_ = reference_.groups < std::max(4, kernel_.step) * STOPS ? 0 : (1u << LAST) - 1;
}

void Filter::review_stops() {
  const int64_t seen = std::accumulate(ended_.begin(), ended_.end(), int64_t(0));
  if (seen < TRIAL) return;
  // In eighths of a quarter of the products, what a look costs.
  const int64_t cost = std::max<int64_t>(1, kernel_.look * 8 * STOPS / reference_.groups);
  int64_t reached = seen;
  for (int stop = 0; stop < LAST; ++stop) {
    if (stops_ >> stop & 1 && ended_[stop] * (LAST - stop) * 8 < reached * cost) stops_ &= ~(1u << stop);
    reached -= ended_[stop];
  }
  ended_.fill(0);
}

void Filter::multiply(int64_t t, const std::vector<Columns>& columns) {
  for (int64_t c = 0; c < int64_t(columns.size()); ++c) {
    if (t == 0) reference_.starts(columns[c], start_.data() + c * STOPS * nr_);
    kernel_.multiply(tile(t, columns[c].panel, start_.data() + c * STOPS * nr_, value_.data() + c * mr_ * nr_, false));
  }
}

std::pair<int64_t, int32_t> Filter::nearest(const std::vector<Columns>& columns, int64_t s) const {
  int32_t most = INT_MIN;
  int64_t column = 0;
  for (int64_t c = 0; c < int64_t(columns.size()); ++c) {
    const int32_t* value = value_.data() + c * mr_ * nr_ + (s % mr_) * nr_;
    const int32_t* top = std::max_element(value, value + nr_);  // padding loses to every true column
    if (*top > most) most = *top, column = columns[c].panel * nr_ + (top - value);
  }
  return {column, most};
}

void Filter::set_row_limits(int64_t from_tile, int64_t to_tile, const Candidates& candidates, float error) {
  for (int64_t s = from_tile * mr_; s < std::min(count_, to_tile * mr_); ++s) {
    reach_[s] = candidates.limit(first_ + s) + error_[s];
    const int32_t reach = half_square(reach_[s] + error);
    for (int64_t at = s; at < STOPS * rows_; at += rows_) row_limit_[at] = base_[at] - reach;
  }
}

void Filter::set_columns(int64_t panel, const Candidates& candidates) {
  const int64_t first = panel * nr_, last = std::min(first + nr_, reference_.n);
  for (int64_t j = 0; j < nr_; ++j)
    column_limit_[j] = first + j < last ? candidates.limit(first + j) + reference_.error[first + j] : 0.0f;
  set_column_reach(tile_error_[0]);
}

void Filter::set_column_reach(float error) {
  for (int64_t j = 0; j < nr_; ++j) column_reach_[j] = half_square(column_limit_[j] + error);
  column_reach_error_ = error;
}

int32_t Filter::kth_value(const std::vector<Columns>& columns, int64_t s, int64_t k, int64_t own) {
  const float ordinary = ordinary_error(reference_.width);
  const int64_t count = columns.size(), fold = std::min<int64_t>(count, (2 * k + nr_ - 1) / nr_);
  group_.assign(fold * nr_, INT_MIN);
  for (int64_t c = 0; c < count; ++c) {
    const int32_t* value = value_.data() + c * mr_ * nr_ + (s % mr_) * nr_;
    int32_t* group = group_.data() + (c % fold) * nr_;
    const int64_t first = columns[c].panel * nr_, end = first + nr_;
    if (columns[c].begin <= first && end <= columns[c].end && reference_.panel_error[columns[c].panel] <= ordinary &&
        (own < first || own >= end)) {
      for (int64_t j = 0; j < nr_; ++j) group[j] = std::max(group[j], value[j]);
      continue;
    }
    for (int64_t j = std::max(columns[c].begin, first) - first; j < std::min(columns[c].end, end) - first; ++j)
      if (reference_.error[first + j] <= ordinary && first + j != own) group[j] = std::max(group[j], value[j]);
  }
  if (int64_t(group_.size()) < k) return INT_MIN;
  std::nth_element(group_.begin(), group_.begin() + (k - 1), group_.end(), std::greater<int32_t>());
  return group_[k - 1];
}

float Filter::bound(const std::vector<Columns>& columns, int64_t s, int32_t kth, const Units& units) {
  if (kth == INT_MIN) return NOBODY;
  float error = 0;
  for (const Columns& it : columns) error = std::max(error, reference_.panel_error[it.panel]);
  error = std::min(error, ordinary_error(reference_.width));
  const float squared = 2.0f * float(int64_t(full(base_, s)) - kth) + 2.0f;
  return units.limit_of_bound(std::sqrt(std::max(squared, 0.0f)) + error_[s] + error);
}

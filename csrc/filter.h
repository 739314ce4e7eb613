// Step 2 of the search: a block of query rows against panels of the reference; products, comparison, and what passes.
// What passes by which limits is filter.cpp.
#pragma once
#include <algorithm>
#include <array>
#include <climits>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "encode.h"
#include "kernel.h"
#include "refine.h"

class Filter {
  static constexpr int64_t PATIENCE = 4;  // panels that rows pass with the limits they had

 public:
  Filter(const Codes& reference, int64_t block_rows, int64_t opening)
      : reference_(reference), kernel_(*reference.kernel), hold_(kernel_), mr_(kernel_.mr), nr_(kernel_.nr),
        rows_(block_rows), words_(aligned_bytes(rows_ * reference.groups * int64_t(sizeof(int32_t)))),
        base_(STOPS * rows_), norm_(rows_), error_(rows_), reach_(rows_), row_limit_(STOPS * rows_),
        tile_error_(rows_ / mr_), start_(opening * STOPS * nr_), value_(opening * mr_ * nr_), column_reach_(nr_),
        column_limit_(nr_), hit_(mr_), taken_(rows_, INT_MAX) {}

  // Takes rows [first, first + count) of `queries`.
  void load(const Codes& queries, int64_t first, int64_t count);

  // First look at `columns` (at most as many as `opening`). The k that look nearest go to the sink, and
  // settle(i) turns them into a true limit; then follows what else is within that. selves(i) says how
  // many columns row i must not meet, and which is the first; a row with several gets no bound from here.
  template <class Selves, class Settle, class Sink>
  void open(const std::vector<Columns>& columns, int64_t k, const Candidates& candidates, Selves selves, Settle settle,
            Sink& sink) {
    for (int64_t t = 0; t < tiles_; ++t) {
      multiply(t, columns);
      const int64_t from = t * mr_, to = std::min(count_, from + mr_);
      for (int64_t s = from; s < to; ++s) {
        const auto [count, own] = selves(first_ + s);
        const int32_t kth = count <= 1 ? kth_value(columns, s, k, own) : INT_MIN;
        full(row_limit_, s) = std::max(kth, full(base_, s) - ALWAYS);
        reach_[s] = NOBODY;
      }
      for (size_t c = 0; c < columns.size(); ++c) compare(t, columns[c], c, sink);
      for (int64_t s = from; s < to; ++s) {
        taken_[s] = full(row_limit_, s);
        settle(first_ + s);
      }
      float error = -1;
      for (size_t c = 0; c < columns.size(); ++c) {
        if (const float needed = reference_.filter_error(columns[c].panel); needed != error)
          set_row_limits(t, t + 1, candidates, error = needed);
        compare(t, columns[c], c, sink);
      }
      std::fill(taken_.begin() + from, taken_.begin() + to, INT_MAX);
    }
  }

  // For each row the limit that `columns` prove, and the column that looks nearest: out(i, limit, column,
  // distance).
  template <class Own, class Out>
  void appraise(const std::vector<Columns>& columns, int64_t k, const Units& units, Own own, Out out) {
    for (int64_t t = 0; t < tiles_; ++t) {
      multiply(t, columns);
      for (int64_t s = t * mr_; s < std::min(count_, (t + 1) * mr_); ++s) {
        const float limit = bound(columns, s, kth_value(columns, s, k, own(first_ + s)), units);
        const auto [column, value] = nearest(columns, s);
        out(first_ + s, limit, column, std::sqrt(std::max(0.0f, 2.0f * float(full(base_, s) - value))));
      }
    }
  }

  // Everything in these columns that is within a row's limit, or (both) within its own. The panel that comes
  // next is fetched on the way.
  template <class Sink>
  void visit(const Columns& columns, int64_t next, const Candidates& candidates, bool both, Sink& sink) {
    reference_.starts(columns, start_.data());
    if (const float needed = reference_.filter_error(columns.panel); needed != limits_error_ || ++age_ == PATIENCE) {
      set_row_limits(0, tiles_, candidates, limits_error_ = needed);
      age_ = 0;
    }
    if (both) set_columns(columns.panel, candidates);
    const uint8_t* const ahead = reference_.panel(next);
    const int64_t bytes = reference_.panel_bytes(), share = (bytes / tiles_ + 64) & -64;
    for (int64_t t = 0; t < tiles_; ++t) {
      for (int64_t b = t * share; b < std::min((t + 1) * share, bytes); b += 64) __builtin_prefetch(ahead + b);
      if (both && tile_error_[t] != column_reach_error_) set_column_reach(tile_error_[t]);
      const Tile it = tile(t, columns.panel, start_.data(), value_.data(), both);
      const int end = kernel_.filter(it);
      ++ended_[end];
      if (end == STOPS) emit(it, t, columns.panel, both, sink);
    }
    review_stops();
  }

 private:
  int32_t* words(int64_t t) const { return reinterpret_cast<int32_t*>(words_.get()) + t * mr_ * reference_.groups; }

  Tile tile(int64_t t, int64_t panel, const int32_t* start, int32_t* value, bool both) {
    return {words(t), reference_.panel(panel), reference_.groups, start,
            row_limit_.data() + t * mr_, base_.data() + t * mr_, rows_, both ? column_reach_.data() : nullptr, stops_,
            value, hit_.data()};
  }

  int32_t& full(std::vector<int32_t>& of, int64_t s) const { return of[LAST * rows_ + s]; }  // at the last stop

  // A stop that saves less than the look at it costs is passed by from here on.
  void review_stops();

  // Values of one tile of rows and several panels.
  void multiply(int64_t t, const std::vector<Columns>& columns);

  // The column that looks nearest to row s, and its value.
  std::pair<int64_t, int32_t> nearest(const std::vector<Columns>& columns, int64_t s) const;

  // Limits of rows against columns whose errors do not exceed `error`.
  void set_row_limits(int64_t from_tile, int64_t to_tile, const Candidates& candidates, float error);

  // The reach of a panel's rows, and that of rows and columns whose errors do not exceed `error`.
  void set_columns(int64_t panel, const Candidates& candidates);
  void set_column_reach(float error);

  // The k-th best value among the maxima of disjoint groups of columns belongs to the k-th of k different
  // rows or better, so its distance bounds the k-th neighbour's. Rows with large errors are left out.
  int32_t kth_value(const std::vector<Columns>& columns, int64_t s, int64_t k, int64_t own);

  // The limit that a k-th value proves.
  float bound(const std::vector<Columns>& columns, int64_t s, int32_t kth, const Units& units);

  template <class Sink>
  void compare(int64_t t, const Columns& columns, size_t c, Sink& sink) {
    const Tile it = tile(t, columns.panel, start_.data() + c * STOPS * nr_, value_.data() + c * mr_ * nr_, false);
    if (kernel_.compare(it)) emit(it, t, columns.panel, false, sink);
  }

  template <class Sink>
  void emit(const Tile& it, int64_t t, int64_t panel, bool both, Sink& sink) {
    for (int64_t i = 0; i < mr_; ++i)
      for (uint32_t bits = it.hit[i]; bits; bits &= bits - 1) {
        const int64_t j = __builtin_ctz(bits), s = t * mr_ + i, column = panel * nr_ + j;
        const int32_t value = it.value[i * nr_ + j], odd = (norm_[s] & 1) + (reference_.norm[LAST][column] & 1);
        const float delta = std::sqrt(float(2 * (full(base_, s) - value) + odd));
        if (delta - reference_.error[column] <= reach_[s] && value < taken_[s])
          sink.row(first_ + s, {delta, uint32_t(column)});
        if (both && delta - error_[s] <= column_limit_[j]) sink.column(column, {delta, uint32_t(first_ + s)});
      }
  }

  const Codes& reference_;
  const Kernel& kernel_;
  const KernelHold hold_;                   // a Filter belongs to one thread
  const int64_t mr_, nr_, rows_;
  Bytes words_;                             // packed codes (int32_t), a tile after the other
  std::vector<int32_t> base_, norm_;        // base: [STOPS][rows]
  std::vector<float> error_, reach_;        // reach: limit plus own error
  std::vector<int32_t> row_limit_;          // [STOPS][rows]
  std::vector<float> tile_error_;
  std::vector<int32_t> start_, value_, column_reach_;
  std::vector<float> column_limit_;         // as reach_, of the panel's rows
  std::vector<uint32_t> hit_;
  std::vector<int32_t> taken_;              // values from here on have been handed over already
  std::vector<int32_t> group_;
  std::array<int64_t, STOPS + 1> ended_{};  // tiles by where they ended
  uint32_t stops_ = 0;                      // the stops that are worth a look, see Tile
  int64_t first_ = 0, count_ = 0, tiles_ = 0, age_ = 0;
  float limits_error_ = -1, column_reach_error_ = -1;  // what limits and reaches stand for
};

// How the rounds go. A round is one launch of the filter over many tiles and one of refine over the rows concerned: limits
// stand still while tiles are compared, and fall in between. Rounds double what a row has met, so a row's new candidates
// stay about as many from round to round. A row that met more candidates than its capacity has overflowed: what it met in that
// round is met again by it alone, in smaller pieces (walk), or, in a search for both sides, everything is, once the others
// are done.
#pragma once
#include <atomic>
#include <vector>

#include "side.h"

namespace gpu {

// Pairs that are not neighbours: of equal identity, by position (null: none), or of a row with itself.
struct Excluded {
  const int64_t *query_id, *reference_id;
  bool self;
};

class Rounds {
 public:
  // `rows`: the most that a side has.
  Rounds(const SearchTask& task, const DevicePtr& device, int64_t rows);

  void filter(const FilterTask& task);

  // Column tiles that `rows` rows may meet in one launch.
  int64_t most_steps(int64_t rows) const;

  // Refines the listed rows (all: null) and returns those that overflowed, as numbers of the state.
  std::vector<uint32_t> refine(const Side& side, const Loaded& reference, Refine mode, const uint32_t* list, int64_t count);

  // The listed rows of the state (all: empty) against columns [begin, end) of the reference. Limits may be infinite.
  void walk(const Side& side, const Loaded& reference, const std::vector<uint32_t>& list, Range columns, int64_t piece,
            const Excluded& excluded);

  // A first piece that fits whatever passes, and gives a limit.
  static int64_t opening(const Side& side);

  void finish(const Side& side, const Loaded& reference) { refine(side, reference, Refine::finish, nullptr, 0); }

  void add_to(Counts& counts) const;

 private:
  // What refine does where it cannot: the candidates of these rows against originals on the host.
  void measure_on_host(const Side& side, const Loaded& reference, std::vector<uint32_t> list);

  const SearchTask& task_;
  DevicePtr device_;
  const int64_t tile_;
  Buffer<uint32_t> full_, overflowed_, counters_;
  Buffer<unsigned long long> totals_;
  std::atomic<int64_t> host_measured_{0};
};

}  // namespace gpu

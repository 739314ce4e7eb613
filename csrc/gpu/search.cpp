// Which rows meet which columns, and in how large rounds: of pairs within one set, and between two.
#include "search.h"

#include <algorithm>
#include <optional>

#include "rounds.h"

namespace gpu {

namespace {

// Rows of a side that overflowed on the way: all columns again, with the limits that they have by now.
void redo(Rounds& rounds, const Side& side, const Loaded& reference, const std::vector<bool>& overflowed, Range columns) {
  std::vector<uint32_t> list;
  for (size_t i = 0; i < overflowed.size(); ++i)
    if (overflowed[i]) list.push_back(uint32_t(i));
  if (list.empty()) return;
  Buffer<uint32_t> here(side.rows.device(), int64_t(list.size()));
  here.upload(list);
  restart(side.state, here.data(), here.size(), side.rows.device()->stream);
  const int64_t piece = std::max<int64_t>(Rounds::opening(side), columns.size() / 8);
  rounds.walk(side, reference, list, columns, piece, {nullptr, nullptr, true});
}

// True limits cost k measurements a row. After every second doubling, the last time when 64 % of the columns have been met,
// they spare a third of what passes and double what is measured, which is the lesser (`python bench/rounds.py`).
bool worth_settling(int64_t begin, int64_t end, int64_t steps) {
  for (double share = 0.64 * double(steps); share >= 1; share /= 4)
    if (double(begin) < share && share <= double(end)) return true;
  return false;
}

}  // namespace

std::pair<Table, Table> search_pairs(const SearchTask& task, const Loaded& rows, Range a, Range b, const float* limit_a,
                                     const float* limit_b, Counts& counts) {
  use(rows.device()->number);
  const bool self = a.begin == b.begin;
  const int64_t capacity = capacity_for(task, a.size() + (self ? 0 : b.size())), tile = task.wgmma ? WGMMA_TILE : MMA_TILE;
  Rounds rounds(task, rows.device(), std::max(a.size(), b.size()));
  Side left(rows, a, capacity, task.k);
  std::optional<Side> other;
  left.reset(limit_a);
  if (!self) other.emplace(rows, b, capacity, task.k), other->reset(limit_b);
  const Side& right = self ? left : *other;

  FilterTask it{};
  it.rows = it.columns = rows.codes();
  it.row = left.state, it.column = right.state;
  it.self = self, it.cyclic = true;
  it.row_begin = a.begin, it.row_end = a.end, it.column_begin = b.begin, it.column_end = b.end;
  const int64_t tiles = (b.end - b.begin / tile * tile + tile - 1) / tile, steps = self ? tiles / 2 + 1 : tiles;
  std::vector<bool> overflowed_left(a.size()), overflowed_right(self ? 0 : b.size());
  for (int64_t begin = 0; begin < steps;) {
    const int64_t end = std::min({steps, std::max<int64_t>(1, 2 * begin), begin + rounds.most_steps(a.size())});
    it.begin_step = int(begin), it.end_step = int(end);
    rounds.filter(it);
    const Refine mode = worth_settling(begin, end, steps) && end * tile > 16 * task.k ? Refine::settle : Refine::tighten;
    for (const uint32_t i : rounds.refine(left, rows, mode, nullptr, 0)) overflowed_left[i] = true;
    if (!self)
      for (const uint32_t i : rounds.refine(right, rows, mode, nullptr, 0)) overflowed_right[i] = true;
    begin = end;
  }
  redo(rounds, left, rows, overflowed_left, b);
  rounds.finish(left, rows);
  if (!self) {
    redo(rounds, right, rows, overflowed_right, a);
    rounds.finish(right, rows);
  }
  std::pair<Table, Table> out{left.table(0), self ? Table{} : right.table(0)};
  rounds.add_to(counts);
  rows.device()->wait();
  return out;
}

std::vector<Table> search_between(const SearchTask& task, const Loaded& queries, const Loaded& reference, Range rows,
                                  const int64_t* query_id, const int64_t* reference_id, const std::vector<Range>& spans,
                                  Counts& counts) {
  const DevicePtr& device = reference.device();
  use(device->number);
  Buffer<int64_t> ids[2];
  if (query_id) {
    ids[0] = Buffer<int64_t>(device, queries.n()), ids[1] = Buffer<int64_t>(device, reference.n());
    ids[0].upload(query_id, queries.n()), ids[1].upload(reference_id, reference.n());
  }
  Rounds rounds(task, device, rows.size());
  Side side(queries, rows, capacity_for(task, rows.size()), task.k);
  std::vector<Table> out;
  int64_t done = 0;
  for (size_t s = 0; s < spans.size(); ++s) {
    const Range span = spans[s];
    const bool fresh = s == 0 || span.begin != spans[s - 1].begin;
    if (fresh) side.reset(nullptr), done = span.begin;
    const int64_t piece = fresh ? Rounds::opening(side) : std::max(Rounds::opening(side), done - span.begin);
    rounds.walk(side, reference, {}, {done, span.end}, piece, {ids[0].data(), ids[1].data(), false});
    rounds.finish(side, reference);
    out.push_back(side.table(span.begin));
    done = span.end;
  }
  rounds.add_to(counts);
  device->wait();
  return out;
}

}  // namespace gpu

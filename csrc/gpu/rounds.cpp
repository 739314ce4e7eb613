// The rounds of rounds.h, launch by launch.
#include "rounds.h"

#include <algorithm>

namespace gpu {

namespace {

constexpr int64_t MAX_TILES = int64_t(1) << 30;  // of a launch: block numbers are 32-bit

}  // namespace

Rounds::Rounds(const SearchTask& task, const DevicePtr& device, int64_t rows)
    : task_(task), device_(device), tile_(task.wgmma ? WGMMA_TILE : MMA_TILE), full_(device, rows), overflowed_(device, rows),
      counters_(device, 2), totals_(device, 2) {
  totals_.fill(0);
}

void Rounds::filter(const FilterTask& task) {
  check(*task_.stop);
  task_.wgmma ? filter_wgmma(task, device_->stream) : filter_mma(task, device_->stream);
}

int64_t Rounds::most_steps(int64_t rows) const { return std::max<int64_t>(1, MAX_TILES / (rows / MMA_TILE + 32)); }

std::vector<uint32_t> Rounds::refine(const Side& side, const Loaded& reference, Refine mode, const uint32_t* list, int64_t count) {
  const bool here = side.rows.on_device() && reference.on_device();
  if (!here && mode == Refine::settle) mode = Refine::tighten;  // the host measures when it must
  counters_.fill(0);
  RefineTask task{side.state, reference.units(), mode, here, {}, {}, side.rows.codes().error, reference.codes().error, list,
                  list ? count : side.state.n, overflowed_.data(), counters_.data(), full_.data(), counters_.data() + 1,
                  totals_.data(), totals_.data() + 1};
  if (here) task.queries = side.rows.rows(), task.reference = reference.rows();
  gpu::refine(task, device_->stream);
  const std::vector<uint32_t> found = counters_.download(2);
  if (found[1]) measure_on_host(side, reference, full_.download(found[1]));
  return overflowed_.download(found[0]);
}

void Rounds::walk(const Side& side, const Loaded& reference, const std::vector<uint32_t>& list, Range columns, int64_t piece,
                  const Excluded& excluded) {
  FilterTask filter_task{};
  filter_task.columns = reference.codes();
  filter_task.row = side.state;
  filter_task.row_id = excluded.query_id, filter_task.column_id = excluded.reference_id;
  filter_task.self = excluded.self;
  Loaded::Selection some;
  Buffer<uint32_t> which, rows;
  if (list.empty()) {
    filter_task.rows = side.rows.codes(), filter_task.row_begin = side.range.begin, filter_task.row_end = side.range.end;
  } else {
    std::vector<uint32_t> positions(list.size());
    for (size_t at = 0; at < list.size(); ++at) positions[at] = uint32_t(side.range.begin + list[at]);
    rows = Buffer<uint32_t>(device_, list.size()), which = Buffer<uint32_t>(device_, list.size());
    rows.upload(list), which.upload(positions);
    some = side.rows.select(which.data(), int64_t(list.size()));
    filter_task.rows = some.codes, filter_task.row_end = int64_t(list.size()), filter_task.which = which.data();
    device_->wait();  // the lists are the host's until here
  }
  const int64_t most = std::max<int64_t>(side.state.capacity / 2, 1);
  for (int64_t begin = columns.begin; begin < columns.end; piece *= 2) {
    const int64_t end = std::min(columns.end, begin + std::min(piece, most_steps(filter_task.row_end - filter_task.row_begin) * tile_));
    filter_task.column_begin = begin, filter_task.column_end = end;
    filter_task.end_step = int((end - begin / tile_ * tile_ + tile_ - 1) / tile_);
    filter(filter_task);
    const auto overflowed = refine(side, reference, Refine::tighten, rows.data(), int64_t(list.size()));
    // A piece of half a buffer cannot overflow it, so this ends.
    if (!overflowed.empty())
      walk(side, reference, overflowed, {begin, end}, std::max(most, (end - begin) / 8), excluded);
    begin = end;
  }
}

int64_t Rounds::opening(const Side& side) {
  return std::min<int64_t>(side.state.capacity / 2, std::max<int64_t>(MMA_TILE, 4 * side.state.k));
}

void Rounds::add_to(Counts& counts) const {
  const auto totals = totals_.download(2);
  counts.passed += int64_t(totals[0]), counts.measured += int64_t(totals[1]) + host_measured_;
}

}  // namespace gpu

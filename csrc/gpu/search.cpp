// How the rounds go. A round is one launch of the filter over many tiles and one of refine over the rows concerned: limits
// stand still while tiles are compared, and fall in between. Rounds double what a row has met, so a row's new candidates
// stay about as many from round to round. A row that met more candidates than its capacity has overflowed: what it met in that
// round is met again by it alone, in smaller pieces (walk), or, in a search for both sides, everything is, once the others
// are done.
#include "search.h"

#include <numeric>

#include "../parallel.h"
#include "../refine.h"

namespace gpu {

namespace {

constexpr int64_t MIN_CAPACITY = 256;   // candidates that a row can hold: the columns of the largest tile, all of which may come
constexpr int64_t MAX_CAPACITY = 4096;  // refine sorts as many in shared memory
constexpr int64_t MAX_TILES = int64_t(1) << 30;  // of a launch: block numbers are 32-bit

int64_t least_capacity(int64_t k) { return std::max(MIN_CAPACITY, (2 * k + 31) / 32 * 32); }
int64_t row_memory(int64_t capacity, int64_t k) { return 8 * capacity + 8 * k + 4 * 5; }

// Candidates of a row: of clustered rows some 25 k come at most in a round. `python bench/rounds.py --capacity C` follows rows
// through the rounds: with 16 k most of them overflow, with 32 k none.
int64_t capacity_for(const SearchTask& task, int64_t rows) {
  const int64_t least = least_capacity(task.k), most = std::clamp(32 * task.k, MIN_CAPACITY, MAX_CAPACITY);
  const int64_t fit = (task.memory / std::max<int64_t>(rows, 1) - row_memory(0, task.k)) / 8 / 32 * 32;
  return std::clamp(fit, least, std::max(least, most));
}

// The queries at work on the device, with their state.
class Side {
 public:
  Side(const Loaded& rows, Range range, int64_t capacity, int64_t k)
      : rows(rows), range(range), limit_(rows.device(), range.size()), count_(rows.device(), 2 * range.size()),
        waiting_(rows.device(), range.size() * capacity), best_(rows.device(), range.size() * k) {
    state = {limit_.data(), count_.data(), count_.data() + range.size(), waiting_.data(), best_.data(), range.begin,
             range.size(), int(capacity), int(k)};
  }

  // Back to knowing nothing but the given distances [n] on the host.
  void reset(const float* distance) {
    Buffer<float> known;
    if (distance) {
      known = Buffer<float>(rows.device(), range.size());
      known.upload(distance, range.size());
    }
    gpu::reset(state, known.data(), rows.units(), rows.device()->stream);
    rows.device()->wait();  // `distance` is the caller's
  }

  Table table(int64_t origin) const {
    Table out{{rows.device(), state.n * state.k}, {rows.device(), state.n * state.k}};
    write_table(state, origin, out.distance.data(), out.index.data(), rows.device()->stream);
    return out;
  }

  const Loaded& rows;
  const Range range;
  State state;

 private:
  Buffer<float> limit_;
  Buffer<uint32_t> count_;  // and kept, behind it
  Buffer<uint64_t> waiting_, best_;
};

class Search {
 public:
  Search(const SearchTask& task, const DevicePtr& device, int64_t rows)
      : task_(task), device_(device), tile_(task.wgmma ? WGMMA_TILE : MMA_TILE), full_(device, rows), overflowed_(device, rows),
        counters_(device, 2), totals_(device, 2) {
    totals_.fill(0);
  }

  void filter(const FilterTask& task) {
    check(*task_.stop);
    task_.wgmma ? filter_wgmma(task, device_->stream) : filter_mma(task, device_->stream);
  }
  // Column tiles that `rows` rows may meet in one launch.
  int64_t most_steps(int64_t rows) const { return std::max<int64_t>(1, MAX_TILES / (rows / MMA_TILE + 32)); }

  // Refines the listed rows (all: null) and returns those that overflowed, as numbers of the state.
  std::vector<uint32_t> refine(const Side& side, const Loaded& reference, Refine mode, const uint32_t* list, int64_t count) {
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

  // The listed rows of the state (all: empty) against columns [begin, end) of the reference. Limits may be infinite.
  void walk(const Side& side, const Loaded& reference, const std::vector<uint32_t>& list, Range columns, int64_t piece,
            const int64_t* query_id, const int64_t* reference_id, bool self) {
    FilterTask filter_task{};
    filter_task.columns = reference.codes();
    filter_task.row = side.state;
    filter_task.row_id = query_id, filter_task.column_id = reference_id, filter_task.self = self;
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
        walk(side, reference, overflowed, {begin, end}, std::max(most, (end - begin) / 8), query_id, reference_id, self);
      begin = end;
    }
  }

  // A first piece that fits whatever passes, and gives a limit.
  static int64_t opening(const Side& side) {
    return std::min<int64_t>(side.state.capacity / 2, std::max<int64_t>(MMA_TILE, 4 * side.state.k));
  }

  void finish(const Side& side, const Loaded& reference) {
    refine(side, reference, Refine::finish, nullptr, 0);
  }

  void add_to(Counts& counts) const {
    const auto totals = totals_.download(2);
    counts.passed += int64_t(totals[0]), counts.measured += int64_t(totals[1]) + host_measured_;
  }

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

void Search::measure_on_host(const Side& side, const Loaded& reference, std::vector<uint32_t> list) {
  const int64_t capacity = side.state.capacity, k = side.state.k, d = reference.d();
  const Kernel& kernel = *usable_kernels().front();
  std::sort(list.begin(), list.end());
  constexpr int64_t BLOCK = 4096;  // rows that travel together
  std::vector<uint64_t> waiting(BLOCK * capacity), best(BLOCK * k);
  std::vector<uint32_t> count(BLOCK), kept(BLOCK);
  std::vector<float> limit(BLOCK);
  for (size_t from = 0, to = 0; from < list.size(); from = to) {
    check(*task_.stop);
    const int64_t first = list[from], rows = std::min(BLOCK, side.state.n - first);
    while (to < list.size() && list[to] < first + rows) ++to;
    auto exchange = [&](auto copy) {
      copy(count.data(), side.state.count + first, size_t(rows) * 4), copy(kept.data(), side.state.kept + first, size_t(rows) * 4);
      copy(limit.data(), side.state.limit + first, size_t(rows) * 4);
      copy(best.data(), side.state.best + first * k, size_t(rows * k) * 8);
    };
    exchange([&](void* here, void* there, size_t bytes) { to_host(here, there, bytes, device_->stream); });
    to_host(waiting.data(), side.state.waiting + first * capacity, size_t(rows * capacity) * 8, device_->stream);
    device_->wait();

    parallel_rows(int64_t(to - from), 16, task_.threads, [&](int64_t begin, int64_t end) {
      std::vector<float> x(d), y(4 * d);
      std::vector<uint64_t> keys;
      for (int64_t at = begin; at < end; ++at) {
        const int64_t r = list[from + at] - first, candidates = count[r];
        const uint64_t* const candidate = &waiting[r * capacity];
        const float* const query = side.rows.host_row(side.range.begin + first + r, x.data(), kernel);
        keys.assign(&best[r * k], &best[r * k] + k);
        for (int64_t c = 0; c < candidates; c += 4) {
          const float* others[4];
          float squared[4];
          for (int64_t l = 0; l < 4; ++l)
            others[l] = reference.host_row(uint32_t(candidate[std::min(c + l, candidates - 1)]), y.data() + l * d, kernel);
          kernel.measure4(query, others, d, squared);
          for (int64_t l = 0; l < std::min<int64_t>(4, candidates - c); ++l)
            keys.push_back(key_of(std::sqrt(squared[l]), uint32_t(candidate[c + l])));
        }
        host_measured_ += candidates;
        std::partial_sort_copy(keys.begin(), keys.end(), &best[r * k], &best[r * k] + k);
        if (const uint64_t last = best[r * k + k - 1]; last != NO_KEY)
          limit[r] = std::min(limit[r], up(double(distance_of(last)) * reference.units().distance_scale + reference.units().distance_add));
        count[r] = kept[r] = 0;
      }
    });
    exchange([&](void* here, void* there, size_t bytes) { to_device(there, here, bytes, device_->stream); });
    device_->wait();
  }
}

// Rows of a side that overflowed on the way: all columns again, with the limits that they have by now.
void redo(Search& search, const Side& side, const Loaded& reference, const std::vector<bool>& overflowed, Range columns) {
  std::vector<uint32_t> list;
  for (size_t i = 0; i < overflowed.size(); ++i)
    if (overflowed[i]) list.push_back(uint32_t(i));
  if (list.empty()) return;
  Buffer<uint32_t> here(side.rows.device(), int64_t(list.size()));
  here.upload(list);
  restart(side.state, here.data(), here.size(), side.rows.device()->stream);
  const int64_t piece = std::max<int64_t>(Search::opening(side), columns.size() / 8);
  search.walk(side, reference, list, columns, piece, nullptr, nullptr, true);
}

// True limits cost k measurements a row. After every second doubling, the last time when 64 % of the columns have been met,
// they spare a third of what passes and double what is measured, which is the lesser (`python bench/rounds.py`).
bool worth_settling(int64_t begin, int64_t end, int64_t steps) {
  for (double share = 0.64 * double(steps); share >= 1; share /= 4)
    if (double(begin) < share && share <= double(end)) return true;
  return false;
}

}  // namespace

int64_t least_row_memory(int64_t k) { return row_memory(least_capacity(k), k); }

std::pair<Table, Table> search_pairs(const SearchTask& task, const Loaded& rows, Range a, Range b, const float* limit_a,
                                     const float* limit_b, Counts& counts) {
  use(rows.device()->number);
  const bool self = a.begin == b.begin;
  const int64_t capacity = capacity_for(task, a.size() + (self ? 0 : b.size())), tile = task.wgmma ? WGMMA_TILE : MMA_TILE;
  Search search(task, rows.device(), std::max(a.size(), b.size()));
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
    const int64_t end = std::min({steps, std::max<int64_t>(1, 2 * begin), begin + search.most_steps(a.size())});
    it.begin_step = int(begin), it.end_step = int(end);
    search.filter(it);
    const Refine mode = worth_settling(begin, end, steps) && end * tile > 16 * task.k ? Refine::settle : Refine::tighten;
    for (const uint32_t i : search.refine(left, rows, mode, nullptr, 0)) overflowed_left[i] = true;
    if (!self)
      for (const uint32_t i : search.refine(right, rows, mode, nullptr, 0)) overflowed_right[i] = true;
    begin = end;
  }
  redo(search, left, rows, overflowed_left, b);
  search.finish(left, rows);
  if (!self) {
    redo(search, right, rows, overflowed_right, a);
    search.finish(right, rows);
  }
  std::pair<Table, Table> out{left.table(0), self ? Table{} : right.table(0)};
  search.add_to(counts);
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
  Search search(task, device, rows.size());
  Side side(queries, rows, capacity_for(task, rows.size()), task.k);
  std::vector<Table> out;
  int64_t done = 0;
  for (size_t s = 0; s < spans.size(); ++s) {
    const Range span = spans[s];
    const bool fresh = s == 0 || span.begin != spans[s - 1].begin;
    if (fresh) side.reset(nullptr), done = span.begin;
    const int64_t piece = fresh ? Search::opening(side) : std::max(Search::opening(side), done - span.begin);
    search.walk(side, reference, {}, {done, span.end}, piece, ids[0].data(), ids[1].data(), false);
    search.finish(side, reference);
    out.push_back(side.table(span.begin));
    done = span.end;
  }
  search.add_to(counts);
  device->wait();
  return out;
}

}  // namespace gpu

// Kernels one by one on a set of rows, timed by the device's own clock: for clipscan/bench/kernels.py, which knows what
// they have done in that time. Nothing here is part of a search.
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "../python_arrays.h"
#include "search.h"

namespace gpu {
namespace {

using Milliseconds = std::vector<float>;

class Timing {
 public:
  // host: arrays of rows, which move to the device. Each row has `capacity` candidates and k neighbours.
  Timing(const DevicePtr& device, const py::list& host, const Array<float>& centre, const Array<float>& sign, float gain, int k,
         int capacity, int threads)
      : keep_(host), device_(device), book_(as_book(centre, sign, gain)), threads_(threads), rows_(load()),
        n_(rows_->n()), limit_(device, n_), count_(device, 2 * n_), waiting_(device, n_ * capacity), best_(device, n_ * k),
        lists_(device, 2 * n_), counters_(device, 2), totals_(device, 2) {
    state_ = {limit_.data(), count_.data(), count_.data() + n_, waiting_.data(), best_.data(), 0, n_, capacity, k};
    start(0);
  }

  // All rows become codes.
  Milliseconds encode(int warm, int rounds) {
    use(device_->number);
    const Rotation r = book_.rotation();
    const Codes like = rows_->codes();
    Buffer<float> centre(device_, r.d), sign(device_, 2 * r.width), error(device_, n_), tile_error(device_, like.padded / TILE);
    Buffer<int8_t> code(device_, like.chunks * like.padded * CHUNK);
    Buffer<int32_t> norm(device_, n_);
    centre.upload(book_.centre), sign.upload(book_.sign);
    const EncodeTask task{rows_->rows(), n_, 0, int(r.width), int(r.span), centre.data(), sign.data(), r.shrink, r.gain, code.data(),
                          like.padded, norm.data(), error.data(), tile_error.data()};
    return timed(warm, rounds, [&] { tile_error.fill(0); }, [&] { gpu::encode(task, device_->stream); });
  }

  // The first row equal to each.
  Milliseconds find_copies(int warm, int rounds) {
    use(device_->number);
    int64_t slots = 16;
    while (slots < 2 * n_) slots *= 2;
    Buffer<unsigned long long> table(device_, slots);
    Buffer<uint32_t> table_first(device_, slots), slot(device_, n_), first(device_, n_), spare(device_, 1);
    const CopiesTask task{rows_->rows(), n_, 0, table.data(), table_first.data(), slots, slot.data(), first.data(), spare.data()};
    return timed(warm, rounds, [&] { table.fill(0), table_first.fill(0xff), spare.fill(0); },
                 [&] { gpu::find_copies(task, device_->stream); });
  }

  // No neighbour is farther than `distance` from any row; no candidates.
  void start(float distance) {
    use(device_->number);
    Buffer<float> all(device_, n_);
    all.upload(std::vector<float>(size_t(n_), distance));
    reset(state_, all.data(), rows_->units(), device_->stream);
    device_->wait();
  }

  // Rows against the columns of a band of steps, from `distance` on. both: each pair once and for both rows, else all
  // pairs and for the row alone. The candidates of the last run stay.
  Milliseconds filter(bool wgmma, int begin, int end, bool both, float distance, int warm, int rounds) {
    const FilterTask it = task(begin, end, both);
    return timed(warm, rounds, [&] { start(distance); },
                 [&] { wgmma ? filter_wgmma(it, device_->stream) : filter_mma(it, device_->stream); });
  }

  // The kernels' own argument, for variants of them that are compiled elsewhere.
  py::bytes filter_task(int begin, int end, bool both) const {
    const FilterTask it = task(begin, end, both);
    return {reinterpret_cast<const char*>(&it), sizeof it};
  }

  // Candidates that the last filter found, those beyond the capacity included.
  int64_t passed() const {
    use(device_->number);
    int64_t sum = 0;
    for (const uint32_t count : count_.download(n_)) sum += count;
    return sum;
  }

  // Those candidates: how many of each row [n], and the first `capacity` of them [n, capacity] as kernels.h, State has them.
  py::tuple found() const {
    Array<uint32_t> count(n_);
    Array<uint64_t> waiting({py::ssize_t(n_), py::ssize_t(state_.capacity)});
    use(device_->number);
    count_.download(count.mutable_data(), n_);
    waiting_.download(waiting.mutable_data(), waiting_.size());
    return py::make_tuple(count, waiting);
  }

  // What the last filter found, refined; it is there again afterwards. And how many pairs were measured in a run.
  std::pair<Milliseconds, int64_t> refine(Refine mode, int warm, int rounds) {
    use(device_->number);
    Buffer<float> limit(device_, n_);
    Buffer<uint32_t> count(device_, count_.size());
    Buffer<uint64_t> waiting(device_, waiting_.size()), best(device_, best_.size());
    copy(limit_, limit), copy(count_, count), copy(waiting_, waiting), copy(best_, best);
    auto restore = [&] {
      copy(limit, limit_), copy(count, count_), copy(waiting, waiting_), copy(best, best_);
      counters_.fill(0), totals_.fill(0);
    };
    const float* const error = rows_->codes().error;
    const RefineTask it{state_, rows_->units(), mode, true, rows_->rows(), rows_->rows(), error, error, nullptr, n_,
                        lists_.data(), counters_.data(), lists_.data() + n_, counters_.data() + 1, totals_.data(),
                        totals_.data() + 1};
    const auto took = timed(warm, rounds, restore, [&] { gpu::refine(it, device_->stream); });
    const auto measured = totals_.download(2)[1];
    restore();
    device_->wait();
    return {took, int64_t(measured)};
  }

  // The scores of the rows' own table, which is found first.
  Milliseconds density(int warm, int rounds) {
    use(device_->number);
    if (!table_) {
      const StopFlag stop{false};
      Counts counts;
      const Range all{0, n_};
      const int64_t memory = n_ * 8 * (state_.capacity + 2 * state_.k + 4);
      table_ = search_pairs({state_.k, memory, threads_, &stop, false}, *rows_, all, all, nullptr, nullptr, counts).first;
    }
    Buffer<double> out(device_, 8 * n_);
    double* const o = out.data();
    const DensityTask it{table_->distance.data(), table_->index.data(), n_, state_.k, o, o + n_, o + 2 * n_, o + 3 * n_,
                         o, o + n_, o + 3 * n_, o + 4 * n_, o + 5 * n_, o + 6 * n_, o + 7 * n_};
    return timed(warm, rounds, [] {}, [&] { gpu::density(it, device_->stream); });
  }

 private:
  LoadedPtr load() const {
    const int64_t d = int64_t(book_.centre.size());
    Input input{as_source(keep_, d), {}, 0, d};
    input.n = input.host.n;
    const StopFlag stop{false};
    return std::make_shared<const Loaded>(device_, input, book_, std::numeric_limits<int64_t>::max(), threads_, stop);
  }

  FilterTask task(int begin, int end, bool both) const {
    FilterTask it{};
    it.rows = it.columns = rows_->codes();
    it.row = state_;
    if (both) it.column = state_;
    it.self = true, it.cyclic = both;
    it.row_end = it.column_end = n_;
    it.begin_step = begin, it.end_step = end;
    return it;
  }

  template <class T>
  void copy(const Buffer<T>& from, const Buffer<T>& to) const {
    between_devices(to.data(), from.data(), size_t(from.size()) * sizeof(T), device_->stream);
  }

  // Milliseconds of each run after the first `warm`; what prepares it is not timed.
  template <class Prepare, class Run>
  Milliseconds timed(int warm, int rounds, Prepare prepare, Run run) {
    use(device_->number);
    Milliseconds out;
    for (int r = 0; r < warm + rounds; ++r) {
      prepare();
      const Mark from = mark(device_->stream);
      run();
      const Mark to = mark(device_->stream);
      device_->wait();
      const float took = milliseconds(from, to);
      if (r >= warm) out.push_back(took);
    }
    return out;
  }

  const py::list keep_;
  const DevicePtr device_;
  const Codebook book_;
  const int threads_;
  const LoadedPtr rows_;
  const int64_t n_;
  Buffer<float> limit_;
  Buffer<uint32_t> count_;  // and kept, behind it
  Buffer<uint64_t> waiting_, best_;
  Buffer<uint32_t> lists_, counters_;
  Buffer<unsigned long long> totals_;
  State state_;
  std::optional<Table> table_;
};

}  // namespace

void bind_timing(py::module_& m) {
  const auto alone = py::call_guard<py::gil_scoped_release>();
  py::class_<Timing>(m, "Timing", py::module_local())
      .def(py::init<const DevicePtr&, const py::list&, const Array<float>&, const Array<float>&, float, int, int, int>(),
           py::arg("device"), py::arg("host"), py::arg("centre"), py::arg("sign"), py::arg("gain"), py::arg("k"),
           py::arg("capacity"), py::arg("threads"))
      .def("encode", &Timing::encode, py::arg("warm"), py::arg("rounds"), alone)
      .def("find_copies", &Timing::find_copies, py::arg("warm"), py::arg("rounds"), alone)
      .def("start", &Timing::start, py::arg("distance"), alone)
      .def("filter", &Timing::filter, py::arg("wgmma"), py::arg("begin"), py::arg("end"), py::arg("both"),
           py::arg("distance"), py::arg("warm"), py::arg("rounds"), alone)
      .def("filter_task", &Timing::filter_task, py::arg("begin"), py::arg("end"), py::arg("both"))
      .def("passed", &Timing::passed, alone)
      .def("found", &Timing::found)
      .def("refine", [](Timing& t, const std::string& mode, int warm, int rounds) {
        return t.refine(mode == "tighten" ? Refine::tighten : mode == "settle" ? Refine::settle : Refine::finish, warm, rounds);
      }, py::arg("mode"), py::arg("warm"), py::arg("rounds"), alone)
      .def("density", &Timing::density, py::arg("warm"), py::arg("rounds"), alone);
}

}  // namespace gpu

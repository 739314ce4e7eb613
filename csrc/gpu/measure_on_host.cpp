// Candidates whose original rows are on the host: the device hands over what they wait for, CPU threads measure, and the
// device goes on with the results.
#include <algorithm>
#include <cmath>

#include "../parallel.h"
#include "../refine.h"
#include "rounds.h"

namespace gpu {

void Rounds::measure_on_host(const Side& side, const Loaded& reference, std::vector<uint32_t> list) {
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

}  // namespace gpu

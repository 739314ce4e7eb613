#include "collapse.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "rows.h"
#include "schedule.h"

void write_keys(const Key* keys, int64_t k, int64_t first, float* distance, int64_t* index) {
  for (int64_t r = 0; r < k; ++r) {
    const Key key = keys[r];  // keys and index may share memory
    distance[r] = distance_of(key);
    index[r] = key == NO_KEY ? -1 : int64_t(row_of(key)) - first;
  }
}

// Equal hashes are a hint; rows are then compared.
Copies::Copies(const KnnTask& task, const Source& rows) : rows_(rows.n) {
  std::vector<uint64_t> hash(rows_);
  const uint64_t salt = std::random_device{}() | uint64_t(std::random_device{}()) << 32;
  parallel_rows(rows_, 1024, task.threads, [&](int64_t begin, int64_t end) {
    check(task);
    std::vector<float> scratch(rows.d);
    for (int64_t i = begin; i < end; ++i) hash[i] = hash_row(rows.row(i, scratch.data(), *task.kernel), rows.d, salt);
  });

  std::vector<uint32_t> order(rows_);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return std::pair(hash[a], a) < std::pair(hash[b], b); });

  // first_[i]: the first row equal to i. Within a run of one hash, rows are compared with each first row so far.
  std::vector<uint32_t> first_of(rows_);
  std::vector<float> a(rows.d), b(rows.d);
  for (int64_t from = 0, to; from < rows_; from = to) {
    for (to = from + 1; to < rows_ && hash[order[to]] == hash[order[from]];) ++to;
    std::vector<uint32_t> firsts;
    for (int64_t at = from; at < to; ++at) {
      const uint32_t i = order[at];
      const float* row = to - from > 1 ? rows.row(i, a.data(), *task.kernel) : nullptr;
      const auto same = std::find_if(firsts.begin(), firsts.end(), [&](uint32_t j) {
        return std::equal(row, row + rows.d, rows.row(j, b.data(), *task.kernel));
      });
      first_of[i] = same == firsts.end() ? i : *same;
      if (same == firsts.end()) firsts.push_back(i);
      spare_ += first_of[i] != i;
    }
  }
  if (!spare_) return;

  std::vector<uint32_t> position(rows_);
  for (int64_t i = 0; i < rows_; ++i)
    if (first_of[i] == i) position[i] = uint32_t(which_.size()), which_.push_back(uint32_t(i));
  start_.assign(which_.size() + 1, 0);
  for (int64_t i = 0; i < rows_; ++i) ++start_[position[first_of[i]] + 1];
  std::partial_sum(start_.begin(), start_.end(), start_.begin());
  member_.resize(rows_);
  std::vector<uint32_t> next(start_.begin(), start_.end() - 1);
  for (int64_t i = 0; i < rows_; ++i) member_[next[position[first_of[i]]]++] = uint32_t(i);
}

void Copies::write(const Key* keys, int64_t k, float* distance, int64_t* index, int threads) const {
  if (!spare_) {
    parallel_rows(rows_, 4096, threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) write_keys(keys + i * k, k, 0, distance + i * k, index + i * k);
    });
    return;
  }
  std::vector<uint32_t> position(rows_);
  for (int64_t p = 0; p < n(); ++p)
    for (uint32_t at = start_[p]; at < start_[p + 1]; ++at) position[member_[at]] = uint32_t(p);

  // Members of a position come at or after it, so going backwards no key is overwritten before it is read.
  std::vector<Key> all, row(k);
  for (int64_t p = n() - 1; p >= 0; --p) {
    const uint32_t *members = member_.data() + start_[p], *end = member_.data() + start_[p + 1];
    all.clear();
    for (const uint32_t* m = members; m < end && m - members <= k; ++m) all.push_back(key_of(0.0f, *m));
    for (int64_t r = 0; r < k && keys[p * k + r] != NO_KEY; ++r) {
      const Key key = keys[p * k + r];
      const uint32_t q = position[row_of(key)];
      for (uint32_t at = start_[q]; at < start_[q + 1] && at - start_[q] < uint64_t(k); ++at)
        all.push_back(key_of(distance_of(key), member_[at]));
    }
    std::sort(all.begin(), all.end());
    for (const uint32_t* m = members; m < end; ++m) {
      row.assign(k, NO_KEY);
      for (int64_t r = 0, a = 0; r < k && a < int64_t(all.size()); ++a)
        if (row_of(all[a]) != *m) row[r++] = all[a];
      write_keys(row.data(), k, 0, distance + *m * k, index + *m * k);
    }
  }
}

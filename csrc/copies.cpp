#include "copies.h"

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
std::vector<uint32_t> find_copies(const KnnTask& task, const Source& rows) {
  std::vector<uint64_t> hash(rows.n);
  const uint64_t salt = std::random_device{}() | uint64_t(std::random_device{}()) << 32;
  parallel_rows(rows.n, 1024, task.threads, [&](int64_t begin, int64_t end) {
    check(task);
    std::vector<float> scratch(rows.d);
    for (int64_t i = begin; i < end; ++i) hash[i] = hash_row(rows.row(i, scratch.data(), *task.kernel), rows.d, salt);
  });

  std::vector<uint32_t> order(rows.n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return std::pair(hash[a], a) < std::pair(hash[b], b); });

  // Within a run of one hash, rows are compared with each first row so far.
  std::vector<uint32_t> first_of(rows.n);
  std::vector<float> a(rows.d), b(rows.d);
  for (int64_t from = 0, to; from < rows.n; from = to) {
    for (to = from + 1; to < rows.n && hash[order[to]] == hash[order[from]];) ++to;
    std::vector<uint32_t> firsts;
    for (int64_t at = from; at < to; ++at) {
      const uint32_t i = order[at];
      const float* row = to - from > 1 ? rows.row(i, a.data(), *task.kernel) : nullptr;
      const auto same = std::find_if(firsts.begin(), firsts.end(), [&](uint32_t j) {
        return std::equal(row, row + rows.d, rows.row(j, b.data(), *task.kernel));
      });
      first_of[i] = same == firsts.end() ? i : *same;
      if (same == firsts.end()) firsts.push_back(i);
    }
  }
  return first_of;
}

Copies::Copies(std::span<const uint32_t> first_of) : rows_(int64_t(first_of.size())) {
  for (int64_t i = 0; i < rows_; ++i) spare_ += first_of[i] != i;
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

struct Copies::Listing {
  Listing(const Copies& copies, int64_t k, float* distance, int64_t* index)
      : copies(copies), k(k), distance(distance), index(index), position(copies.rows_) {
    for (int64_t p = 0; p < copies.n(); ++p)
      for (const uint32_t* m = begin(p); m < end(p); ++m) position[*m] = uint32_t(p);
  }
  const uint32_t* begin(int64_t p) const { return copies.member_.data() + copies.start_[p]; }
  const uint32_t* end(int64_t p) const { return begin(p + 1); }

  // near [k]: the nearest first rows of position p, all read before the first is written. `all` and `row` are scratch.
  void write(int64_t p, const Key* near, std::vector<Key>& all, std::vector<Key>& row) const {
    all.clear();
    for (const uint32_t* m = begin(p); m < end(p) && m - begin(p) <= k; ++m) all.push_back(key_of(0.0f, *m));
    for (int64_t r = 0; r < k && near[r] != NO_KEY; ++r) {
      const uint32_t q = position[row_of(near[r])];
      for (const uint32_t* m = begin(q); m < end(q) && m - begin(q) < k; ++m)
        all.push_back(key_of(distance_of(near[r]), *m));
    }
    std::sort(all.begin(), all.end());
    for (const uint32_t* m = begin(p); m < end(p); ++m) {
      row.assign(k, NO_KEY);
      for (int64_t r = 0, a = 0; r < k && a < int64_t(all.size()); ++a)
        if (row_of(all[a]) != *m) row[r++] = all[a];
      write_keys(row.data(), k, 0, distance + *m * k, index + *m * k);
    }
  }

  const Copies& copies;
  const int64_t k;
  float* const distance;
  int64_t* const index;
  std::vector<uint32_t> position;  // of each row
};

void Copies::write(const Key* keys, int64_t k, float* distance, int64_t* index, int threads) const {
  if (!spare_) {
    parallel_rows(rows_, 4096, threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) write_keys(keys + i * k, k, 0, distance + i * k, index + i * k);
    });
    return;
  }
  const Listing listing(*this, k, distance, index);
  // Members of a position come at or after it, so going backwards no key is overwritten before it is read.
  std::vector<Key> all, row;
  for (int64_t p = n() - 1; p >= 0; --p) listing.write(p, keys + p * k, all, row);
}

void Copies::expand(const float* near_distance, const int64_t* near_index, int64_t k, float* distance, int64_t* index,
                    int threads) const {
  if (!spare_) {
    std::copy_n(near_distance, rows_ * k, distance);
    std::copy_n(near_index, rows_ * k, index);
    return;
  }
  const Listing listing(*this, k, distance, index);
  parallel_rows(n(), 256, threads, [&](int64_t begin, int64_t end) {
    std::vector<Key> near(k), all, row;
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t r = 0; r < k; ++r) {
        const int64_t position = near_index[p * k + r];
        near[r] = position < 0 ? NO_KEY : key_of(near_distance[p * k + r], which_[position]);
      }
      listing.write(p, near.data(), all, row);
    }
  });
}

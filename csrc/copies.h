// Equal rows are searched once. Web data holds thousands of copies of one placeholder picture.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "knn.h"
#include "refine.h"

// Keys [k] -> distances and row numbers, counted from `first`.
void write_keys(const Key* keys, int64_t k, int64_t first, float* distance, int64_t* index);

// Row -> the first row equal to it.
std::vector<uint32_t> find_copies(const KnnTask& task, const Source& rows);

// Rows by equality: a position is a different row, and has all its copies as members.
class Copies {
 public:
  Copies(const KnnTask& task, const Source& rows) : Copies(find_copies(task, rows)) {}
  explicit Copies(std::span<const uint32_t> first_of);

  int64_t n() const { return rows_ - spare_; }
  // Position -> the first of its rows, ascending; null where all rows differ.
  const uint32_t* which() const { return spare_ ? which_.data() : nullptr; }
  int64_t count(int64_t position) const { return spare_ ? start_[position + 1] - start_[position] : 1; }

  // Tables of different rows (keys [n, k] over first rows) -> tables of all rows, copies listed. `keys`
  // may be the memory of `index`.
  void write(const Key* keys, int64_t k, float* distance, int64_t* index, int threads) const;

  // The same from tables whose indices are positions (near_index [n, k], -1 where nobody is left).
  void expand(const float* near_distance, const int64_t* near_index, int64_t k, float* distance, int64_t* index,
              int threads) const;

 private:
  struct Listing;  // writes the tables of one position's rows

  int64_t rows_, spare_ = 0;     // rows, and how many of them repeat an earlier one
  std::vector<uint32_t> which_;  // [n]
  std::vector<uint32_t> start_;  // [n + 1] into member_
  std::vector<uint32_t> member_; // [rows], by position, ascending
};

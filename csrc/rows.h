// What is done once per row of an array: the door check, content hashes, mean cosines.
#pragma once
#include <atomic>
#include <cstdint>

#include "source.h"

struct Rows {
  const float* data;  // [n, d]
  int64_t n, d;
  int threads;
};

// bad[i] = 1 where a row holds NaN or inf, or where |x|^2 leaves float32
void find_bad_rows(const Source& rows, int threads, const std::atomic<bool>& stop, uint8_t* bad);

// 64-bit hash of a row's values; equal rows, equal hashes (-0.0 counts as 0.0). A secret salt keeps an attacker
// from preparing rows that collide.
uint64_t hash_row(const float* row, int64_t d, uint64_t salt);

// The same of every row without a salt: equal on every machine.
void hash_rows(const Source& rows, int threads, const std::atomic<bool>& stop, uint64_t* hash);

// out[i] = mean_j a_i . b_index[i,j] / (|a_i| |b_index[i,j]|), over index >= 0; a zero vector has cosine 0
void mean_cosine(const Rows& a, const Rows& b, const int64_t* index, int64_t k, double* out);

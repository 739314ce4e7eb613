// Exact k nearest rows. The definition is clipscan/engine/reference.py:knn, the algorithm docs/engine.md.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "encode.h"
#include "source.h"

// A table over reference rows [begin, end). Spans of one begin share a pass.
struct Span {
  int64_t begin, end;
  float* distance;  // out [n, k], ascending; +inf where nobody is left
  int64_t* index;   // out [n, k], rows of the reference, counted from begin; -1 where nobody is left
};

struct KnnTask {
  const Kernel* kernel;
  const Codebook* book;
  int64_t k;
  int threads;
  int64_t memory;                 // bytes to work in, beyond input, output and codes
  const std::atomic<bool>* stop;  // set from outside: the search ends with Stopped
};

struct Counts {
  int64_t passed = 0;    // pairs that the codes could not rule out
  int64_t measured = 0;  // pairs measured in float32
};

struct Stopped {};

// n queries against m others; a pair of equal identity is never a neighbour (ids null: no exclusion).
// Spans are in ascending (begin, end).
Counts knn_between(const KnnTask& task, const Source& queries, const Source& reference, const int64_t* query_id,
                   const int64_t* reference_id, const std::vector<Span>& spans);

// All rows among themselves, no row its own neighbour, every product computed once.
Counts knn_within(const KnnTask& task, const Source& rows, float* distance, int64_t* index);

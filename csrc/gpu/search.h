// The search on one device: rounds of filter and refine, see docs/gpu.md.
#pragma once
#include <utility>
#include <vector>

#include "../knn.h"
#include "loaded.h"

namespace gpu {

struct Table {
  Buffer<float> distance;   // [n, k]
  Buffer<int64_t> index;    // [n, k]
};

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

struct SearchTask {
  int64_t k;
  int64_t memory;         // bytes to work in, beyond tables and codes
  int threads;            // of the host, for originals that lie there
  const StopFlag* stop;
  bool wgmma;             // which filter: sm_90's, or the one of sm_80 and later
};

// Bytes that a row at work needs at least.
int64_t least_row_memory(int64_t k);

// Rows a against rows b of one set, each pair once, for both sides; a == b: among themselves. limit_a, limit_b: distances
// that bound the k-th neighbour, null where nothing is known. Indices are positions in the set.
std::pair<Table, Table> search_pairs(const SearchTask& task, const Loaded& rows, Range a, Range b, const float* limit_a,
                                     const float* limit_b, Counts& counts);

// Query positions `rows` against each span of reference positions; ids by position, null: no exclusion. Spans are in
// ascending (begin, end); those of one begin share a pass. Indices count from the span's begin.
std::vector<Table> search_between(const SearchTask& task, const Loaded& queries, const Loaded& reference, Range rows,
                                  const int64_t* query_id, const int64_t* reference_id, const std::vector<Range>& spans,
                                  Counts& counts);

}  // namespace gpu

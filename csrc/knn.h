// Exact k nearest rows of a reference, in float32. The definition is clipscan/engine/reference.py:knn.
#pragma once
#include <cstdint>

#include "tile.h"

struct KnnTask {
  const float* queries;         // [n, d]
  const float* reference;       // [m, d]
  const int64_t* query_id;      // [n] or null; a pair of equal identities is never a neighbour
  const int64_t* reference_id;  // [m] or null
  int64_t n, m, d;
  int64_t k;
  int threads;
  float* distance;  // out [n, k], ascending; +inf where nobody is left
  int64_t* index;   // out [n, k], rows of the reference; -1 where nobody is left
};

void knn(const KnnTask& task, const TileKernel& tile);

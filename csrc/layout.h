// An order of the rows in which near ones tend to stand together. The table does not depend on it; the time does.
#pragma once
#include <cstdint>
#include <vector>

#include "knn.h"
#include "refine.h"

struct Layout {
  std::vector<uint32_t> order;  // new position -> old
  std::vector<float> limit;     // of the old positions: what the pivots prove
  int64_t strays;               // from this position on, rows far from every pivot
};

// For n rows of the source: which[0], which[1], ..., or 0, 1, ... where that is null.
Layout lay_out(const KnnTask& task, const Source& rows, const uint32_t* which, int64_t n, const Units& units);

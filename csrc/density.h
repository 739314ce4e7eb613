// Local densities and their ratios as gathers over a neighbour table; never an [n, k, m] array.
// Formulas and edge rules: clipscan/engine/reference.py:density, the definition.
#pragma once
#include <cstdint>

// One value per row; null where a caller does not want it.
struct RowDensity {
  double* kdist;    // distance to the k-th neighbour
  double* lid;      // local intrinsic dimension, maximum likelihood
  double* lid_mom;  // the same by the method of moments
  double* lrd;      // local reachability density
};

struct RatioScores {
  double* lof;
  double* slof;
  double* dao;
  double* logdao;
};

struct DensityTask {
  const float* distance;  // [n, k]
  const int64_t* index;   // [n, k], rows of the reference, -1 for nobody
  int64_t n, k;
  int threads;
  RowDensity row;  // out, [n] each
};

void row_density(const DensityTask& task);                                // kdist, lid, lid_mom
void reachability(const DensityTask& task, const double* reference_kdist); // lrd; needs kdist of the reference
void ratios(const DensityTask& task, const RowDensity& reference, const RatioScores& out);

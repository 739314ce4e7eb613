// One value a row from a table of neighbours, float64: what csrc/density.cpp computes, by gathers over the table.
//
// A thread owns a row. Three launches, since each asks its neighbours for what the launch before has written.
#include <cfloat>

#include "gpu.cuh"
#include "kernels.h"

namespace gpu {
namespace {

constexpr double MAX_LID = 1e4;      // k equal distances have no finite dimension; this keeps products finite
constexpr double MAX_SCORE = 1e300;  // DAO is a power; capped so that a mean over draws stays finite

__device__ inline int64_t own_row() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

__device__ inline int found(const DensityTask& t, int64_t i) {
  int count = t.k;
  while (count && t.index[i * t.k + count - 1] < 0) --count;
  return count;
}

__global__ void row_kernel(DensityTask t) {
  const int64_t i = own_row();
  if (i >= t.n) return;
  const int count = found(t, i);
  const float* const r = t.distance + i * t.k;
  const double kdist = count ? r[count - 1] : 0.0;

  double logs = 0, sum = 0;
  int used = 0;
  for (int j = 0; j < count; ++j) {
    sum += r[j];
    if (r[j] > 0) logs += log(kdist / r[j]), ++used;  // a copy of the row itself has no logarithm
  }
  const double mean = count ? sum / count : 0.0;

  t.kdist[i] = kdist;
  t.lid[i] = used ? 1.0 / fmax(logs / used, 1.0 / MAX_LID) : 0.0;
  t.lid_mom[i] = mean > 0 ? mean / fmax(kdist - mean, mean / MAX_LID) : 0.0;
}

__global__ void reachability_kernel(DensityTask t) {
  const int64_t i = own_row();
  if (i >= t.n) return;
  const int count = found(t, i);
  double sum = 0;
  for (int j = 0; j < count; ++j)
    sum += fmax(t.reference_kdist[t.index[i * t.k + j]], double(t.distance[i * t.k + j]));
  t.lrd[i] = sum > 0 ? count / sum : INFINITY;  // inside k+1 copies of one point
}

__global__ void ratio_kernel(DensityTask t) {
  const int64_t i = own_row();
  if (i >= t.n) return;
  const int count = found(t, i);
  const double kdist = t.kdist[i], lrd = t.lrd[i];
  double lof = 0, slof = 0, log_sum = 0, powers = 0, largest = -INFINITY;
  int used = 0;
  for (int j = 0; j < count; ++j) {
    const int64_t o = t.index[i * t.k + j];
    if (!(t.reference_kdist[o] > 0)) continue;  // k+1 copies of one point have no density to compare with
    ++used;
    const double ratio = kdist / t.reference_kdist[o];
    lof += t.reference_lrd[o] / lrd;
    slof += ratio;
    const double power = t.reference_lid[o] * log(fmax(ratio, DBL_MIN));
    log_sum += power;
    // sum of exp(power) kept as powers * exp(largest): a power of a few hundred would overflow
    if (power > largest) powers = powers * exp(largest - power) + 1, largest = power;
    else powers += exp(power - largest);
  }
  t.lof[i] = used ? lof / used : 1.0;
  t.slof[i] = used ? slof / used : 1.0;
  t.logdao[i] = used ? log_sum / used : 0.0;
  t.dao[i] = used ? fmin(exp(largest + log(powers / used)), MAX_SCORE) : 1.0;
}

}  // namespace

void density(const DensityTask& task, Stream stream) {
  const int64_t blocks = (task.n + 255) / 256;
  launch("density rows", row_kernel, blocks, 256, 0, stream, 1, task);
  launch("density reachability", reachability_kernel, blocks, 256, 0, stream, 1, task);
  launch("density ratios", ratio_kernel, blocks, 256, 0, stream, 1, task);
}

}  // namespace gpu

#include "density.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "parallel.h"

namespace {

constexpr int64_t GRAIN = 4096;     // rows a task; small enough to balance, large enough to hide the counter
constexpr double MAX_LID = 1e4;     // k equal distances have no finite dimension; this keeps products finite
constexpr double MAX_SCORE = 1e300;  // DAO is a power; capped so that a mean over draws stays finite
constexpr double INF = std::numeric_limits<double>::infinity();

int64_t found(const DensityTask& task, int64_t i) {
  int64_t count = task.k;
  while (count && task.index[i * task.k + count - 1] < 0) --count;
  return count;
}

// -1 / mean ln(r_i / d_k) over the neighbours with r_i > 0: a copy of the row itself has no logarithm.
double lid_mle(const float* r, int64_t count, double kdist) {
  double sum = 0;
  int64_t used = 0;
  for (int64_t j = 0; j < count; ++j)
    if (r[j] > 0) sum += std::log(kdist / r[j]), ++used;
  return used ? 1.0 / std::max(sum / used, 1.0 / MAX_LID) : 0.0;  // k copies: a point has dimension 0
}

double lid_moments(const float* r, int64_t count, double kdist) {
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += r[j];
  const double mean = sum / count;
  return mean > 0 ? mean / std::max(kdist - mean, mean / MAX_LID) : 0.0;
}

}  // namespace

void row_density(const DensityTask& task) {
  parallel_rows(task.n, GRAIN, task.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t count = found(task, i);
      const float* r = task.distance + i * task.k;
      const double kdist = count ? r[count - 1] : 0.0;
      task.row.kdist[i] = kdist;
      task.row.lid[i] = lid_mle(r, count, kdist);
      task.row.lid_mom[i] = count ? lid_moments(r, count, kdist) : 0.0;
    }
  });
}

void reachability(const DensityTask& task, const double* reference_kdist) {
  parallel_rows(task.n, GRAIN, task.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t count = found(task, i);
      double sum = 0;
      for (int64_t j = 0; j < count; ++j) {
        const int64_t at = i * task.k + j;
        sum += std::max(reference_kdist[task.index[at]], double(task.distance[at]));
      }
      task.row.lrd[i] = sum > 0 ? count / sum : INF;  // inside k+1 copies of one point
    }
  });
}

void ratios(const DensityTask& task, const RowDensity& reference, const RatioScores& out) {
  parallel_rows(task.n, GRAIN, task.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double kdist = task.row.kdist[i], lrd = task.row.lrd[i];
      double lof = 0, slof = 0, log_sum = 0, powers = 0, largest = -INF;
      int64_t used = 0;
      for (int64_t j = 0; j < found(task, i); ++j) {
        const int64_t o = task.index[i * task.k + j];
        if (!(reference.kdist[o] > 0)) continue;  // k+1 copies of one point have no density to compare with
        ++used;
        const double ratio = kdist / reference.kdist[o];
        lof += reference.lrd[o] / lrd;
        slof += ratio;
        const double power = reference.lid[o] * std::log(std::max(ratio, DBL_MIN));
        log_sum += power;
        // sum of exp(power) kept as powers * exp(largest): a power of a few hundred would overflow
        if (power > largest) powers = powers * std::exp(largest - power) + 1, largest = power;
        else powers += std::exp(power - largest);
      }
      out.lof[i] = used ? lof / used : 1.0;
      out.slof[i] = used ? slof / used : 1.0;
      out.logdao[i] = used ? log_sum / used : 0.0;
      out.dao[i] = used ? std::min(std::exp(largest + std::log(powers / used)), MAX_SCORE) : 1.0;
    }
  });
}

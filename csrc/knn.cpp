// Tiled, threaded, exact search.
//
// A thread owns a block of queries and walks the whole reference in panels of NR rows. The expanded
// form |y|^2 - 2 x.y only *discards*: with float32 rounding it is known to within a margin, and a row
// is dropped when its lower bound exceeds the k-th smallest upper bound seen so far. What survives is
// measured in the direct form sum (x-y)^2, which is what is reported. The result is the one a plain
// double loop would give, whatever the tile sizes or the number of threads.
//
// Margin. With u = 2^-24, a float32 dot product of d terms errs by at most g|x||y|, g = du/(1-du), and
// 2|x||y| <= |x|^2 + |y|^2. Adding the roundings of the bias, of the difference and of the direct form
// (relative error (d+2)u of |x-y|^2 <= 2|x|^2 + 2|y|^2) stays below c(|x|^2 + |y|^2), c = 3(d+32)u. So for
//     v_j = (1-c)|y_j|^2 - 2 x.y_j   the direct form, less |x|^2, lies in
//     [ v_j - c|x|^2,  v_j + 2c|y_j|^2 + c|x|^2 ].
#include "knn.h"

#include <cfloat>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "parallel.h"
#include "tile.h"

namespace {

constexpr float NOBODY = std::numeric_limits<float>::infinity();
constexpr int64_t BLOCK_BYTES = 384 << 10;  // packed queries of a block: they and one panel stay in L2
constexpr int64_t MAX_BLOCK = 384;          // rows; more would starve the last threads of small searches

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

float squared_norm(const float* row, int64_t d) {
  double sum = 0;
  for (int64_t p = 0; p < d; ++p) sum += double(row[p]) * row[p];
  return float(sum);
}

// rows [count, d] -> [d, width], the rest of the width zero
void pack(const float* rows, int64_t count, int64_t d, int64_t width, float* out) {
  for (int64_t p = 0; p < d; ++p)
    for (int64_t i = 0; i < width; ++i) out[p * width + i] = i < count ? rows[i * d + p] : 0.0f;
}

struct Neighbor {
  float distance;
  int64_t index;
  bool operator<(const Neighbor& other) const {
    return distance != other.distance ? distance < other.distance : index < other.index;
  }
};

// The packed reference, read by all threads.
struct Panels {
  int64_t count;
  std::vector<float> codes;  // [count][d][NR]
  std::vector<float> bias;   // [count * NR]: (1-c)|y|^2, +inf on padding so that it never passes
  std::vector<float> slack;  // [count * NR]: 2c|y|^2

  Panels(const KnnTask& task, const TileKernel& tile, float c)
      : count((task.m + tile.nr - 1) / tile.nr),
        codes(count * task.d * tile.nr),
        bias(count * tile.nr, NOBODY),
        slack(count * tile.nr, 0.0f) {
    parallel_for(count, task.threads, [&](int64_t panel) {
      const int64_t first = panel * tile.nr, here = std::min<int64_t>(tile.nr, task.m - first);
      const float* rows = task.reference + first * task.d;
      pack(rows, here, task.d, tile.nr, codes.data() + first * task.d);
      for (int64_t j = 0; j < here; ++j) {
        const float norm = squared_norm(rows + j * task.d, task.d);
        bias[first + j] = float((1.0 - double(c)) * norm);
        slack[first + j] = 2.0f * c * norm;
      }
    });
  }
};

// One query's state: the k best measured so far, and candidates that still wait to be measured.
struct Row {
  const float* query;
  float norm, margin;            // |x|^2 and c|x|^2
  std::vector<Neighbor> best;    // at most k, measured, sorted
  std::vector<Neighbor> waiting; // (v, index), not measured
};

class Block {
 public:
  Block(const KnnTask& task, const TileKernel& tile, const Panels& panels, float c, int64_t rows)
      : task_(task), tile_(tile), panels_(panels), c_(c),
        capacity_(4 * task.k + 64),
        packed_(rows * task.d), limit_(rows), mask_(tile.mr), product_(tile.mr * tile.nr), row_(rows) {}

  void search(int64_t begin, int64_t end) {
    open(begin, end);
    for (int64_t panel = 0; panel < panels_.count; ++panel)
      for (int64_t group = begin; group < end; group += tile_.mr) scan(begin, group, end, panel);
    for (int64_t i = begin; i < end; ++i) write(i, row_[i - begin]);
  }

 private:
  void open(int64_t begin, int64_t end) {
    std::fill(limit_.begin(), limit_.end(), -NOBODY);  // padding rows accept nothing
    for (int64_t group = begin; group < end; group += tile_.mr)
      pack(task_.queries + group * task_.d, std::min<int64_t>(tile_.mr, end - group), task_.d, tile_.mr,
           packed_.data() + (group - begin) * task_.d);
    for (int64_t i = begin; i < end; ++i) {
      Row& row = row_[i - begin];
      row.query = task_.queries + i * task_.d;
      row.norm = squared_norm(row.query, task_.d);
      row.margin = c_ * row.norm + FLT_MIN;  // FLT_MIN: products of tiny rows underflow
      row.best.clear();
      row.waiting.clear();
      limit_[i - begin] = FLT_MAX;
    }
  }

  void scan(int64_t begin, int64_t group, int64_t end, int64_t panel) {
    const int64_t first = panel * tile_.nr, at = group - begin;
    tile_.multiply(packed_.data() + at * task_.d, panels_.codes.data() + first * task_.d, task_.d, product_.data());
    tile_.filter(product_.data(), panels_.bias.data() + first, limit_.data() + at, mask_.data());

    for (int64_t i = 0; i < std::min<int64_t>(tile_.mr, end - group); ++i)
      for (uint32_t bits = mask_[i]; bits; bits &= bits - 1) {
        const int64_t j = __builtin_ctz(bits);
        accept(at + i, group + i, product_[i * tile_.nr + j], first + j);
      }
  }

  void accept(int64_t slot, int64_t query, float v, int64_t index) {
    if (task_.query_id && task_.query_id[query] == task_.reference_id[index]) return;
    Row& row = row_[slot];
    row.waiting.push_back({v, index});
    if (int64_t(row.waiting.size()) < capacity_) return;
    prune(row, slot);
    if (int64_t(row.waiting.size()) > capacity_ / 2) measure(row, slot);
  }

  // Drops what cannot be among the k: lower bound above the k-th smallest upper bound.
  void prune(Row& row, int64_t slot) {
    if (int64_t(row.waiting.size()) < task_.k) return;
    upper_.clear();
    for (const Neighbor& it : row.waiting) upper_.push_back(it.distance + panels_.slack[it.index]);
    std::nth_element(upper_.begin(), upper_.begin() + (task_.k - 1), upper_.end());
    lower_limit(slot, upper_[task_.k - 1] + 2.0f * row.margin);
    std::erase_if(row.waiting, [&](const Neighbor& it) { return it.distance > limit_[slot]; });
  }

  // Measures every waiting candidate and keeps the k best.
  void measure(Row& row, int64_t slot) {
    for (const Neighbor& it : row.waiting)
      row.best.push_back({std::sqrt(tile_.direct(row.query, task_.reference + it.index * task_.d, task_.d)), it.index});
    row.waiting.clear();
    std::sort(row.best.begin(), row.best.end());
    if (int64_t(row.best.size()) < task_.k) return;
    row.best.resize(task_.k);
    const float kth = row.best.back().distance;
    lower_limit(slot, kth * kth * (1.0f + 4 * FLT_EPSILON) - row.norm + 2.0f * row.margin);
  }

  // The next float up makes good for the rounding of the sums that led to the limit.
  void lower_limit(int64_t slot, float limit) {
    limit_[slot] = std::min(limit_[slot], std::nextafter(limit, NOBODY));
  }

  void write(int64_t query, Row& row) {
    prune(row, query_slot(row));
    measure(row, query_slot(row));
    for (int64_t r = 0; r < task_.k; ++r) {
      const bool found = r < int64_t(row.best.size());
      task_.distance[query * task_.k + r] = found ? row.best[r].distance : NOBODY;
      task_.index[query * task_.k + r] = found ? row.best[r].index : -1;
    }
  }

  int64_t query_slot(const Row& row) const { return &row - row_.data(); }

  const KnnTask& task_;
  const TileKernel& tile_;
  const Panels& panels_;
  const float c_;
  const int64_t capacity_;
  std::vector<float> packed_;  // [groups][d][MR]
  std::vector<float> limit_;   // [rows]: a candidate passes while v <= limit
  std::vector<uint32_t> mask_;
  std::vector<float> product_;
  std::vector<float> upper_;
  std::vector<Row> row_;
};

}  // namespace

std::vector<const TileKernel*> usable_tiles() {
  std::vector<const TileKernel*> tiles;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) tiles.push_back(&tile_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tiles.push_back(&tile_avx2);
#endif
  tiles.push_back(&tile_base);
  return tiles;
}

void knn(const KnnTask& task, const TileKernel& tile) {
  const float c = 3.0f * float(task.d + 32) * (FLT_EPSILON / 2);
  const Panels panels(task, tile, c);

  const int64_t fit = std::min(BLOCK_BYTES / (4 * task.d), MAX_BLOCK);
  const int64_t share = round_up(task.n, task.threads) / task.threads;  // small searches: a block a thread
  const int64_t rows = round_up(std::max<int64_t>(1, std::min(fit, share)), tile.mr);
  parallel_rows(task.n, rows, task.threads, [&](int64_t begin, int64_t end) {
    Block(task, tile, panels, c, rows).search(begin, end);
  });
}

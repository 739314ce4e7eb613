// Every row goes to its nearest pivot; pivots are a sample, chained so that each is followed by a near one.
// Rows that no pivot is near to (their cluster has none) come last, together, so that they can find each
// other before they meet the rest.
#include "layout.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "filter.h"
#include "schedule.h"

namespace {

constexpr int64_t ROWS_A_PIVOT = 64, MIN_PIVOTS = 32, MAX_PIVOTS = 16384;
constexpr int64_t MAX_CHAIN = 2048;  // pivots whose distances are all looked at
constexpr int64_t GROUPS = 256;      // of more pivots than that
constexpr int64_t FEW_BLOCKS = 2;    // strays that are not worth pivots of their own
constexpr double TWO_HEAPS = 0.85;   // share of the variance between two classes; of an even spread it is 0.75

// Distances of rows among themselves, halved and squared, in code units: [n, n].
std::vector<int32_t> all_distances(const Codes& codes) {
  const Kernel& kernel = *codes.kernel;
  const KernelHold hold(kernel);
  const int64_t n = codes.n, nr = kernel.nr;
  std::vector<int32_t> distance(n * n);
  std::vector<int32_t> words(kernel.mr * codes.groups), start(STOPS * nr), value(kernel.mr * nr);
  for (int64_t first = 0; first < n; first += kernel.mr) {
    codes.pack(first, words.data());
    for (const Columns& columns : panels_of(0, n, nr)) {
      codes.starts(columns, start.data());
      kernel.multiply({words.data(), codes.panel(columns.panel), codes.groups, start.data(), nullptr, nullptr, 0,
                       nullptr, 0, value.data(), nullptr});
      for (int64_t i = first; i < std::min(n, first + kernel.mr); ++i)
        for (int64_t j = columns.panel * nr; j < std::min(n, (columns.panel + 1) * nr); ++j)
          distance[i * n + j] = codes.base[LAST][i] - value[(i - first) * nr + j - columns.panel * nr];
    }
  }
  return distance;
}

using Order = std::vector<uint32_t>;

// Each row of `left` followed by the nearest one that is not yet placed.
Order greedy_chain(const KnnTask& task, const Source& rows, const Order& left) {
  const int64_t count = left.size();
  const std::vector<int32_t> distance = all_distances(encode_all(task, rows, left.data(), count));
  std::vector<int64_t> at(count);
  std::iota(at.begin(), at.end(), 0);
  Order placed;
  for (int64_t next = 0; !at.empty();) {
    const int64_t here = at[next];
    placed.push_back(left[here]);
    at[next] = at.back(), at.pop_back();
    const int32_t* row = distance.data() + here * count;
    next = std::min_element(at.begin(), at.end(), [&](int64_t a, int64_t b) { return row[a] < row[b]; }) - at.begin();
  }
  return placed;
}

// The same in little more than linear time: groups around some of the rows, chained, and each chained within.
Order chain(const KnnTask& task, const Source& rows, const Order& left, const Units& units) {
  const int64_t count = left.size();
  if (count <= MAX_CHAIN) return greedy_chain(task, rows, left);
  Order heads;
  for (int64_t h = 0; h < GROUPS; ++h) heads.push_back(left[h * count / GROUPS]);
  heads = greedy_chain(task, rows, heads);

  const Codes to = encode_all(task, rows, heads.data(), GROUPS), from = encode_all(task, rows, left.data(), count);
  const std::vector<Columns> columns = panels_of(0, GROUPS, task.kernel->nr);
  Filter filter(to, MAX_BLOCK, columns.size());
  std::vector<Order> group(GROUPS);
  for (int64_t first = 0; first < count; first += MAX_BLOCK) {
    filter.load(from, first, std::min(MAX_BLOCK, count - first));
    filter.appraise(columns, 1, units, [](int64_t) { return -1; },
                  [&](int64_t i, float, int64_t head, float) { group[head].push_back(left[i]); });
  }
  Order placed;
  for (const Order& members : group) {
    const bool split = int64_t(members.size()) < count;  // rows too tight for their codes stay as they are
    const Order part = split ? chain(task, rows, members, units) : members;
    placed.insert(placed.end(), part.begin(), part.end());
  }
  return placed;
}

// Splits values in two classes so that their means differ most (Otsu 1979): the largest value of the lower one,
// or of all where the classes are not two heaps. Zeros, the pivots themselves, do not count.
float split(const std::vector<float>& values) {
  constexpr int64_t BINS = 256;
  const float most = *std::max_element(values.begin(), values.end());
  if (!(most > 0) || !std::isfinite(most)) return most;
  std::vector<int64_t> count(BINS);
  for (float value : values)
    if (value > 0) ++count[std::min<int64_t>(BINS - 1, int64_t(value / most * BINS))];
  double all = 0, squares = 0, below = 0, best = -1;
  int64_t n = std::accumulate(count.begin(), count.end(), int64_t(0)), n_below = 0, cut = BINS - 1;
  for (int64_t b = 0; b < BINS; ++b) all += double(b) * count[b], squares += double(b) * b * count[b];
  for (int64_t b = 0; b < BINS - 1; ++b) {
    n_below += count[b], below += double(b) * count[b];
    if (n_below == 0 || n_below == n) continue;
    const double gap = below / n_below - (all - below) / (n - n_below), between = gap * gap * n_below * (n - n_below);
    if (between > best) best = between, cut = b;
  }
  const double variance = double(n) * (squares - all * all / n);
  return best > TWO_HEAPS * variance ? most * float(cut + 1) / BINS : most;
}

}  // namespace

Layout lay_out(const KnnTask& task, const Source& rows, const uint32_t* which, int64_t n, const Units& units) {
  const int64_t count = std::clamp<int64_t>(n / ROWS_A_PIVOT, std::min(n, MIN_PIVOTS), MAX_PIVOTS);
  Order pivot(count), pivot_row(count);  // positions, ascending; and rows, in their chain
  for (int64_t p = 0; p < count; ++p) pivot[p] = uint32_t(p * n / count);
  for (int64_t p = 0; p < count; ++p) pivot_row[p] = which ? which[pivot[p]] : pivot[p];
  const Order placed = chain(task, rows, pivot_row, units);
  const Codes pivots = encode_all(task, rows, placed.data(), count);
  Order place(count);  // of pivot[p] in the chain; rows ascend with positions
  for (int64_t p = 0; p < count; ++p)
    place[std::lower_bound(pivot_row.begin(), pivot_row.end(), placed[p]) - pivot_row.begin()] = uint32_t(p);

  Layout out{Order(n), std::vector<float>(n), n};
  Order at(n);  // each row's pivot
  std::vector<float> distance(n);
  const std::vector<Columns> columns = panels_of(0, count, task.kernel->nr);
  const int64_t block = block_rows(task, n);
  parallel_rows(n, block, task.threads, [&](int64_t begin, int64_t end) {
    const Codes own = encode_block(task, rows, which, begin, end);
    Filter filter(pivots, block, columns.size());
    filter.load(own, 0, end - begin);
    const auto itself = [&](int64_t i) {
      const auto same = std::lower_bound(pivot.begin(), pivot.end(), uint32_t(begin + i));
      return same != pivot.end() && *same == begin + i ? int64_t(place[same - pivot.begin()]) : -1;
    };
    filter.appraise(columns, task.k, units, itself, [&](int64_t i, float limit, int64_t nearest, float far) {
      out.limit[begin + i] = limit, at[begin + i] = uint32_t(nearest), distance[begin + i] = far;
    });
  });

  const float near = split(distance);
  Order strays;
  for (int64_t i = 0; i < n; ++i)
    if (distance[i] > near) strays.push_back(uint32_t(i)), at[i] = uint32_t(count);
  out.strays = n - int64_t(strays.size());
  std::vector<int64_t> next(count + 2, 0);
  for (int64_t i = 0; i < n; ++i) ++next[at[i] + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (int64_t i = 0; i < n; ++i) out.order[next[at[i]]++] = uint32_t(i);
  if (n - out.strays > n / 2 || n - out.strays < FEW_BLOCKS * block) return out;

  // Enough strays to be laid out around pivots of their own.
  Order stray_rows;
  for (uint32_t i : strays) stray_rows.push_back(which ? which[i] : i);
  const Layout own = lay_out(task, rows, stray_rows.data(), stray_rows.size(), units);
  for (size_t s = 0; s < strays.size(); ++s) {
    out.order[out.strays + s] = strays[own.order[s]];
    out.limit[strays[s]] = std::min(out.limit[strays[s]], own.limit[s]);
  }
  out.strays += own.strays;
  return out;
}

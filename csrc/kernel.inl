// Body of a Kernel, written with the compiler's vectors of LANES 32-bit numbers.
// The including file sets LANES, MR, VECS (vectors across a panel), GROUP, OFFSET, KERNEL, KERNEL_NAME and
//   IVec LOAD_CODES(const uint8_t*)       LANES columns of one group
//   IVec DOT(IVec sum, IVec columns, IVec row)   sum + the products within each word
//   uint32_t AT_LEAST(IVec a, IVec b)     one bit a lane
//   Vec FMA(Vec a, Vec b, Vec c)
//   WIDEN(const uint16_t*) -> 8 float16 as floats, or nothing: then the portable loop serves
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernel.h"

namespace {

constexpr int NR = LANES * VECS;
static_assert(NR <= 32, "a mask has 32 bits");
static_assert(BLOCK_UNIT % MR == 0 && BLOCK_UNIT % NR == 0);

template <class V, class T>
inline V load(const T* at) {
  V v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

template <class V, class T>
inline void store(T* at, V v) {
  std::memcpy(at, &v, sizeof v);
}

inline IVec broadcast(int32_t x) { return x - IVec{}; }
inline Vec broadcast(float x) { return x - Vec{}; }  // x - 0 is x, -0 included

// ---- codes against codes

struct Sums {
  IVec at[MR][VECS];
};

inline Sums begin(const int32_t* start) {
  Sums sum;
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum.at[i][v] = load<IVec>(start + v * LANES);
  return sum;
}

inline void add_products(Sums& sum, const Tile& t, int64_t from, int64_t to) {
  const uint8_t* columns = t.panel + from * NR * GROUP;
  const int32_t* rows = t.rows + from * MR;
  for (int64_t g = from; g < to; ++g, columns += NR * GROUP, rows += MR) {
    IVec column[VECS];
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) column[v] = LOAD_CODES(columns + v * LANES * GROUP);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum.at[i][v] = DOT(sum.at[i][v], column[v], broadcast(rows[i]));
  }
}

inline void write(const Sums& sum, int32_t* value) {
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) store(value + i * NR + v * LANES, sum.at[i][v]);
}

inline bool hits(const Sums& sum, const Tile& t, int stop) {
  const int32_t *row_limit = t.row_limit + stop * t.row_step, *base = t.base + stop * t.row_step;
  uint32_t any = 0;
  for (int i = 0; i < MR; ++i) {
    uint32_t bits = 0;
    for (int v = 0; v < VECS; ++v) {
      uint32_t here = AT_LEAST(sum.at[i][v], broadcast(row_limit[i]));
      if (t.column_reach)
        here |= AT_LEAST(sum.at[i][v] + load<IVec>(t.column_reach + v * LANES), broadcast(base[i]));
      bits |= here << (v * LANES);
    }
    t.hit[i] = bits;
    any |= bits;
  }
  return any;
}

void multiply(const Tile& t) {
  Sums sum = begin(t.start + LAST * NR);
  add_products(sum, t, 0, t.groups);
  write(sum, t.value);
}

bool compare(const Tile& t) {
  Sums sum;
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum.at[i][v] = load<IVec>(t.value + i * NR + v * LANES);
  return hits(sum, t, LAST);
}

int filter(const Tile& t) {
  int stop = __builtin_ctz(t.stops | 1u << LAST);
  Sums sum = begin(t.start + stop * NR);
  for (int64_t done = 0;;) {
    const int64_t to = t.groups * (stop + 1) / STOPS;
    add_products(sum, t, done, to);
    done = to;
    if (!hits(sum, t, stop)) return stop;
    if (stop == LAST) break;
    const int next = __builtin_ctz((t.stops | 1u << LAST) & ~((2u << stop) - 1));
    for (int v = 0; v < VECS; ++v) {
      const IVec change = load<IVec>(t.start + next * NR + v * LANES) - load<IVec>(t.start + stop * NR + v * LANES);
      for (int i = 0; i < MR; ++i) sum.at[i][v] = sum.at[i][v] + change;
    }
    stop = next;
  }
  write(sum, t.value);
  return STOPS;
}

// ---- a row to its codes

// One stage within a vector: lanes l and l ^ H, for l without bit H, become their sum and their difference.
template <int H, int... L>
inline Vec stage(Vec x, std::integer_sequence<int, L...>) {
#if defined(__clang__)
  const Vec other = __builtin_shufflevector(x, x, (L ^ H)...);
#else
  const Vec other = __builtin_shuffle(x, IVec{(L ^ H)...});
#endif
  const Vec turned = x * Vec{(L & H ? -1.0f : 1.0f)...};
  return other + turned;
}

template <int H>
inline Vec stages(Vec x) {
  if constexpr (H < LANES)
    return stages<2 * H>(stage<H>(x, std::make_integer_sequence<int, LANES>{}));
  else
    return x;
}

// In place, unnormalised; count a power of two. Stages in order h = 1, 2, 4, ...: a + b, a - b.
inline void hadamard(float* y, int64_t count) {
  int64_t h = 1;
  if (count >= LANES) {
    for (int64_t p = 0; p < count; p += LANES) store(y + p, stages<1>(load<Vec>(y + p)));
    h = LANES;
  }
  for (; h < count; h *= 2)
    for (int64_t p = 0; p < count; p += 2 * h)
      for (int64_t l = p; l < p + h; ++l) {
        const float a = y[l], b = y[l + h];
        y[l] = a + b;
        y[l + h] = a - b;
      }
}

float encode(const float* row, const Rotation& r, float* y, int8_t* code) {
  for (int64_t p = 0; p < r.d; ++p) y[p] = (row[p] - r.centre[p]) * r.sign[p];
  for (int64_t p = r.d; p < r.width + 16; ++p) y[p] = 0.0f;
  hadamard(y, r.span);
  if (r.span < r.width) {
    for (int64_t p = 0; p < r.span; ++p) y[p] = y[p] * r.shrink;
    for (int64_t p = 0; p < r.width; ++p) y[p] = y[p] * r.sign[r.width + p];
    hadamard(y + r.width - r.span, r.span);
    for (int64_t p = r.width - r.span; p < r.width; ++p) y[p] = y[p] * r.shrink;
  }

  constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest, ties to even
  float length[16] = {}, error[16] = {};
  for (int64_t p = 0; p < r.width; p += 16)
    for (int l = 0; l < 16; ++l) {
      const float x = y[p + l] * r.gain;
      const float inside = x < -127.0f ? -127.0f : x > 127.0f ? 127.0f : x;
      const float q = (inside + TO_INTEGER) - TO_INTEGER;
      const float e = x - q;
      length[l] += x * x;
      error[l] += e * e;
      code[p + l] = int8_t(q);
    }
  double y2 = 0, e2 = 0;
  for (int l = 0; l < 16; ++l) y2 += length[l], e2 += error[l];
  // Rounding: one step a butterfly stage and a few more on y (relative to its length), one step a term
  // on the two sums.
  constexpr double UNIT = FLT_EPSILON / 2;
  const double terms = 1.0 + double(r.width + 16) * UNIT;
  const double steps = (2 * std::bit_width(uint64_t(r.span)) + 16) * UNIT;
  return float((std::sqrt(e2) * terms + std::sqrt(y2) * terms * steps) * (1 + 16 * FLT_EPSILON));
}

// ---- float32 rows

// Products are rounded before they are added (the build forbids contraction to FMA), which is what
// makes the result the same on every machine.
void measure4(const float* x, const float* const* y, int64_t d, float* out) {
  constexpr int PARTS = 16 / LANES;
  Vec sum[4][PARTS] = {};
  int64_t p = 0;
  for (; p + 16 <= d; p += 16)
    for (int s = 0; s < PARTS; ++s) {
      const Vec query = load<Vec>(x + p + s * LANES);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        const Vec difference = query - load<Vec>(y[c] + p + s * LANES);
        const Vec square = difference * difference;
        sum[c][s] = sum[c][s] + square;
      }
    }
  for (int c = 0; c < 4; ++c) {
    float lane[16];
    for (int s = 0; s < PARTS; ++s) store(lane + s * LANES, sum[c][s]);
    for (int64_t q = p, l = 0; q < d; ++q, ++l) {
      const float difference = x[q] - y[c][q];
      const float square = difference * difference;
      lane[l] = lane[l] + square;
    }
    for (int half = 8; half; half /= 2)
      for (int l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
    out[c] = lane[0];
  }
}

inline float widen_one(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u | rest << 13);
  // A shift puts the exponent where a float32 has it, 112 too small; the product repairs that, subnormals too.
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(rest << 13) * 0x1p112f));
}

void widen(const uint16_t* half, int64_t d, float* out) {
  int64_t p = 0;
#ifdef WIDEN
  for (; p + 8 <= d; p += 8) WIDEN(half + p, out + p);
#endif
  for (; p < d; ++p) out[p] = widen_one(half[p]);
}

// ---- peaks

// Every register starts from another number: equal ones would be computed once.

int64_t spin_codes(int64_t rounds) {
  Sums sum;
  IVec row = broadcast(0x01020304);
  const IVec column = broadcast(0x05060708);
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum.at[i][v] = broadcast(i * VECS + v);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum.at[i][v] = DOT(sum.at[i][v], column, row);
    row = row ^ column;  // or the products would be computed once
  }
  IVec all = {};
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) all = all ^ sum.at[i][v];
  volatile int32_t keep = all[0];
  (void)keep;
  return rounds * 2 * MR * NR * GROUP;
}

int64_t spin_floats(int64_t rounds) {
  Vec sum[MR][VECS];
  const Vec row = broadcast(1.0f), column = broadcast(0.5f);
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) sum[i][v] = broadcast(float(i * VECS + v));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum[i][v] = FMA(column, row, sum[i][v]);
  }
  Vec all = {};
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) all = all + sum[i][v];
  volatile float keep = all[0];
  (void)keep;
  return rounds * 2 * MR * NR;
}

}  // namespace

const Kernel KERNEL = {KERNEL_NAME, MR, NR, GROUP, OFFSET, multiply, compare, filter, encode, measure4, widen,
                       spin_codes, spin_floats};

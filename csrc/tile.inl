// Body of a TileKernel, written with the compiler's vector type of LANES floats.
// The including file sets LANES, MR, VECS (vectors across a tile), TILE (its name), FMA and MOVEMASK.
#include <cstdint>
#include <cstring>

#include "tile.h"

namespace {

constexpr int NR = LANES * VECS;
static_assert(NR <= 32, "a mask has 32 bits");

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t VecMask __attribute__((vector_size(LANES * 4)));

inline Vec load(const float* at) {
  Vec v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

inline Vec broadcast(float x) { return x - Vec{}; }  // x - 0 is x, -0 included

inline void store(float* at, Vec v) { std::memcpy(at, &v, sizeof v); }

void multiply(const float* a, const float* b, int64_t d, float* product) {
  Vec sum[MR][VECS] = {};
  for (int64_t p = 0; p < d; ++p, a += MR, b += NR) {
    Vec column[VECS];
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) column[v] = load(b + v * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) sum[i][v] = FMA(broadcast(a[i]), column[v], sum[i][v]);
  }
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < VECS; ++v) store(product + i * NR + v * LANES, sum[i][v]);
}

void filter(float* product, const float* bias, const float* limit, uint32_t* mask) {
  for (int i = 0; i < MR; ++i) {
    uint32_t bits = 0;
    for (int v = 0; v < VECS; ++v) {
      float* at = product + i * NR + v * LANES;
      const Vec value = load(bias + v * LANES) - 2.0f * load(at);
      store(at, value);
      const VecMask passes = value <= limit[i];
      bits |= uint32_t(MOVEMASK(passes)) << (v * LANES);
    }
    mask[i] = bits;
  }
}

// Products are rounded before they are added (the build forbids contraction to FMA), which is what
// makes the result the same on every machine.
float direct(const float* x, const float* y, int64_t d) {
  constexpr int PARTS = 16 / LANES;
  Vec sum[PARTS] = {};
  int64_t p = 0;
  for (; p + 16 <= d; p += 16)
    for (int s = 0; s < PARTS; ++s) {
      const Vec diff = load(x + p + s * LANES) - load(y + p + s * LANES);
      const Vec square = diff * diff;
      sum[s] = sum[s] + square;
    }
  float lane[16];
  for (int s = 0; s < PARTS; ++s) store(lane + s * LANES, sum[s]);
  for (int l = 0; p < d; ++p, ++l) {
    const float diff = x[p] - y[p];
    const float square = diff * diff;
    lane[l] = lane[l] + square;
  }
  for (int half = 8; half; half /= 2)
    for (int l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  return lane[0];
}

}  // namespace

const TileKernel TILE = {TILE_NAME, MR, NR, multiply, filter, direct};

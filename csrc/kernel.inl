// Body of a Kernel, written with the compiler's vectors of LANES 32-bit numbers.
// The including file sets LANES, MR, VECS (vectors across a panel), GROUP, OFFSET, KERNEL, KERNEL_NAME and
//   IVec LOAD_CODES(const uint8_t*)       LANES columns of one group
//   IVec DOT(IVec sum, IVec columns, IVec row)   sum + the products within each word
//   or, in place of these two, what kernel_tiles.inl asks for
//   uint32_t AT_LEAST(IVec a, IVec b)     one bit a lane
//   Vec FMA(Vec a, Vec b, Vec c)
//   WIDEN(const uint16_t*) -> 8 float16 as floats, or nothing: then the portable loop serves
//   FLOAT_ROWS, rows of the largest tile of float sums that stay in registers, where that is not MR
#if !defined(FLOAT_ROWS)
#define FLOAT_ROWS MR
#endif
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

#include "kernel_compare.inl"
#if defined(TILE_DOT)
#include "kernel_tiles.inl"
#else
#include "kernel_filter.inl"
#endif
#include "kernel_encode.inl"
#include "kernel_measure.inl"
#include "kernel_peaks.inl"

}  // namespace

const Kernel KERNEL = {KERNEL_NAME, MR,      NR,     GROUP,  STEP,     OFFSET, LOOK,       enter,      leave,
                       multiply,    compare, filter, encode, measure4, widen,  spin_codes, spin_floats};

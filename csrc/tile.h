// The arithmetic of the search, once per instruction set (tile_base, tile_avx2, tile_avx512).
#pragma once
#include <cstdint>
#include <vector>

struct TileKernel {
  const char* name;
  int mr;  // queries in a register tile
  int nr;  // reference rows in a register tile; at most 32, one bit each in a mask

  // product[i][j] = sum_p a[p][i] * b[p][j]    a: packed queries [d][mr], b: packed panel [d][nr]
  void (*multiply)(const float* a, const float* b, int64_t d, float* product);

  // product[i][j] <- bias[j] - 2 product[i][j];  mask[i] gets bit j where that is <= limit[i]
  void (*filter)(float* product, const float* bias, const float* limit, uint32_t* mask);

  // sum_p (x_p - y_p)^2 in float32. One fixed order of summation (sixteen lanes, then a tree), so
  // that every instruction set reports the same bits.
  float (*direct)(const float* x, const float* y, int64_t d);
};

extern const TileKernel tile_base;
#if defined(__x86_64__)
extern const TileKernel tile_avx2;
extern const TileKernel tile_avx512;
#endif

// What this processor can run, fastest first.
std::vector<const TileKernel*> usable_tiles();

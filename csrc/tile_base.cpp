// Any machine: vectors of four floats (SSE2, NEON, or what the compiler makes of them).
#define LANES 4
#define MR 4
#define VECS 2
#define TILE tile_base
#define TILE_NAME "base"
#define FMA(a, b, c) ((a) * (b) + (c))
#define MOVEMASK(m) ((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8))
#include "tile.inl"

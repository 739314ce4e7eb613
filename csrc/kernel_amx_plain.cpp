// The source of the AMX kernel on any processor, its tiles arrays: for tests, and slower than kernel_base.
#include "tiles_plain.h"
#include "vectors_base.h"
#define MR 32
#define VECS 8
#define GROUP 4
#define OFFSET 0
#define FLOAT_ROWS 1
#define KERNEL kernel_amx_plain
#define KERNEL_NAME "amx_plain"
#define TILE_CONFIGURE(shapes) tiles.configure(shapes)
#define TILE_RELEASE() tiles.release()
#define TILE_ZERO(tile) tiles.zero(tile)
#define TILE_LOAD(tile, at, stride) tiles.load(tile, at, stride)
#define TILE_STORE(tile, at, stride) tiles.store(tile, at, stride)
#define TILE_DOT(sum, rows, columns) tiles.dot(sum, rows, columns)
#include "kernel.inl"

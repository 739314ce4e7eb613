// What ldtilecfg reads, palette 1.
#pragma once
#include <cstdint>

struct alignas(64) TileShapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];  // of each tile; eight exist
  uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);

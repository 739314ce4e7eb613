// The tile registers of AMX and the operations that kernel_tiles.inl makes, in plain C++. What a processor faults on
// throws.
#pragma once
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "tile_shapes.h"

namespace {

class PlainTiles {
 public:
  void configure(const TileShapes* shapes) {
    need(shapes->palette == 1 && shapes->start_row == 0);
    shapes_ = *shapes;
    for (int tile = 0; tile < TILES; ++tile) {
      need(shapes_.rows[tile] <= ROWS && shapes_.row_bytes[tile] <= BYTES);
      zero(tile);
    }
  }

  void release() { shapes_ = {}; }

  void zero(int tile) {
    need(shapes_.palette);
    std::memset(data_[tile], 0, sizeof data_[tile]);
  }

  void load(int tile, const void* at, int64_t stride) {
    zero(tile);
    for (int row = 0; row < shapes_.rows[tile]; ++row)
      std::memcpy(data_[tile][row], static_cast<const char*>(at) + row * stride, shapes_.row_bytes[tile]);
  }

  void store(int tile, void* at, int64_t stride) const {
    need(shapes_.palette);
    for (int row = 0; row < shapes_.rows[tile]; ++row)
      std::memcpy(static_cast<char*>(at) + row * stride, data_[tile][row], shapes_.row_bytes[tile]);
  }

  void dot(int sum, int rows, int columns) {
    const int words = shapes_.row_bytes[rows] / 4, width = shapes_.row_bytes[sum] / 4;
    need(shapes_.palette && sum != rows && sum != columns && rows != columns);
    need(shapes_.rows[sum] == shapes_.rows[rows] && shapes_.rows[columns] == words);
    need(shapes_.row_bytes[sum] == shapes_.row_bytes[columns]);
    for (int i = 0; i < shapes_.rows[sum]; ++i) {
      int32_t total[BYTES / 4];
      std::memcpy(total, data_[sum][i], sizeof total);
      for (int g = 0; g < words; ++g) {
        const int8_t *a = data_[rows][i] + 4 * g, *b = data_[columns][g];
        for (int j = 0; j < width; ++j)
          total[j] += a[0] * b[4 * j] + a[1] * b[4 * j + 1] + a[2] * b[4 * j + 2] + a[3] * b[4 * j + 3];
      }
      std::memcpy(data_[sum][i], total, sizeof total);
    }
  }

 private:
  static constexpr int TILES = 8, ROWS = 16, BYTES = 64;

  static void need(bool allowed) {
    if (!allowed) throw std::logic_error("a tile is used that is not configured so");
  }

  TileShapes shapes_{};  // palette 0: none are configured
  int8_t data_[TILES][ROWS][BYTES];
};

thread_local PlainTiles tiles;

}  // namespace

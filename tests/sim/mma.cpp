// sm_80: ldmatrix and mma, and the dot products of all matrix instructions.
#include <cstring>

#include "machine.h"

#if defined(__clang__)
#define CLIPSCAN_HOT __attribute__((no_sanitize("address", "undefined")))
#else
#define CLIPSCAN_HOT __attribute__((optimize("O3"), no_sanitize("address"), no_sanitize("undefined")))
#endif

namespace gpu::sim {

CLIPSCAN_HOT void dot_rows(const int8_t* a, int rows_a, const int8_t* b, int rows_b, int32_t* out) {
  int16_t wide_a[64 * 32], wide_b[256 * 32];
  for (int i = 0; i < rows_a * 32; ++i) wide_a[i] = a[i];
  for (int i = 0; i < rows_b * 32; ++i) wide_b[i] = b[i];
  for (int i = 0; i < rows_a; ++i)
    for (int j = 0; j < rows_b; ++j) {
      int32_t sum = 0;
      for (int k = 0; k < 32; ++k) sum += int32_t(wide_a[i * 32 + k]) * wide_b[j * 32 + k];
      out[i * rows_b + j] = sum;
    }
}

namespace {

struct Load {
  const void* row;
  uint32_t* out;
};

void load_work(void* const* lanes) {
  for (int matrix = 0; matrix < 4; ++matrix)
    for (int lane = 0; lane < 32; ++lane) {
      const void* row = static_cast<Load*>(lanes[8 * matrix + lane / 4])->row;
      std::memcpy(&static_cast<Load*>(lanes[lane])->out[matrix], static_cast<const unsigned char*>(row) + 4 * (lane % 4), 4);
    }
}

struct Multiply {
  int32_t* sum;
  const uint32_t* a;
  uint32_t b[2];
};

// PTX ISA, "Matrix Fragments for mma.m16n8k32"; CUTLASS's MMA_Traits<SM80_16x8x32_S32S8S8S32_TN> says the same.
void multiply_work(void* const* lanes) {
  int8_t a[16][32], b[8][32];
  int32_t sum[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<Multiply*>(lanes[lane]);
    const int row = lane / 4, k = 4 * (lane % 4);
    for (int i = 0; i < 4; ++i) std::memcpy(&a[row + 8 * (i % 2)][k + 16 * (i / 2)], &mine.a[i], 4);
    for (int i = 0; i < 2; ++i) std::memcpy(&b[row][k + 16 * i], &mine.b[i], 4);
  }
  dot_rows(&a[0][0], 16, &b[0][0], 8, &sum[0][0]);
  for (int lane = 0; lane < 32; ++lane) {
    int32_t* out = static_cast<Multiply*>(lanes[lane])->sum;
    for (int i = 0; i < 4; ++i)
      out[i] = wrapping_sum(out[i], sum[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
  }
}

}  // namespace

void load_matrices(uint32_t* out, const void* shared, const Where& where) {
  if (self == &g.main) fail("load_matrices outside a kernel");
  self->call = Call::LOAD_MATRICES, self->where = where;
  check_shared(shared, 16, 16);
  Load mine{shared, out};
  meet(Call::LOAD_MATRICES, &mine, load_work, where);
}

void multiply_s8(int32_t* sum, const uint32_t* a, uint32_t b0, uint32_t b1, const Where& where) {
  Multiply mine{sum, a, {b0, b1}};
  meet(Call::MULTIPLY_S8, &mine, multiply_work, where);
}

}  // namespace gpu::sim

// sm_80: asynchronous copies, ldmatrix, mma.
#include "self_test.h"

namespace gpu::self_test {

namespace {

__global__ void fragment_kernel(const uint32_t* a, const uint32_t* b, int32_t* sum) {
  const int lane = int(threadIdx.x) % 32;
  const uint32_t mine[4] = {a[lane * 4], a[lane * 4 + 1], a[lane * 4 + 2], a[lane * 4 + 3]};
  int32_t out[4];
  for (int i = 0; i < 4; ++i) out[i] = sum[lane * 4 + i];
  multiply_s8(out, mine, b[lane * 2], b[lane * 2 + 1]);
  for (int i = 0; i < 4; ++i) sum[lane * 4 + i] = out[i];
}

// MMA_Traits<SM80_16x8x32_S32S8S8S32_TN> of CUTLASS, against the simulator's reading of the PTX manual.
void fragments() {
  OnDevice on;
  const auto a = random_values<int8_t>(16 * 32), b = random_values<int8_t>(8 * 32);
  const auto start = random_values<int32_t>(128);
  std::vector<int8_t> part_a(512), part_b(256);
  for (int lane = 0; lane < 32; ++lane) {
    for (int v = 0; v < 16; ++v) {
      const int at = position({{4, 64}, {8, 1}}, lane) + position({{4, 16}, {2, 8}, {2, 256}}, v);
      part_a[size_t(lane * 16 + v)] = a[size_t(at % 16 * 32 + at / 16)];
    }
    for (int v = 0; v < 8; ++v) {
      const int at = position({{4, 32}, {8, 1}}, lane) + position({{4, 8}, {2, 128}}, v);
      part_b[size_t(lane * 8 + v)] = b[size_t(at % 8 * 32 + at / 8)];
    }
  }
  int32_t* sum = on.copy(start);
  launch("fragment", fragment_kernel, 1, 32, 0, on.stream, 1, reinterpret_cast<const uint32_t*>(on.copy(part_a)),
         reinterpret_cast<const uint32_t*>(on.copy(part_b)), sum);
  const auto result = on.read(sum, 128), expected = product(a, b, 16, 8, 32);
  for (int lane = 0; lane < 32; ++lane)
    for (int v = 0; v < 4; ++v) {
      const int at = position({{4, 32}, {8, 1}}, lane) + position({{2, 16}, {2, 8}}, v);
      const uint32_t wanted = uint32_t(expected[size_t(at % 16 * 8 + at / 16)]) + uint32_t(start[size_t(lane * 4 + v)]);
      CHECK(uint32_t(result[size_t(lane * 4 + v)]) == wanted);
    }
}

__device__ int swizzled(int row, int byte) { return row * 64 + (byte ^ (row / 2 % 4) << 4); }

// sum [128, 128] = a [128, 64 chunks] b^T, three stages of 64 bytes a row under way, PTX's swizzle by hand.
template <int STAGES, bool WAIT, bool SYNC>
__global__ void tile_kernel(const int8_t* a, const int8_t* b, int32_t* sum, int chunks) {
  GPU_SHARED_MEMORY(memory);
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32, width = chunks * 64;
  const auto fetch = [&](int chunk) {
    unsigned char* const to = memory + chunk % STAGES * 16384;
    for (int piece = thread; chunk < chunks && piece < 512; piece += 128) {
      const int row = piece / 4, byte = piece % 4 * 16;
      copy16_async(to + swizzled(row, byte), a + row * width + chunk * 64 + byte);
      copy16_async(to + 8192 + swizzled(row, byte), b + row * width + chunk * 64 + byte);
    }
    copy_commit();
  };
  int32_t c[2][16][4] = {};
  for (int chunk = 0; chunk < STAGES - 1; ++chunk) fetch(chunk);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if (WAIT) copy_wait<STAGES - 2>();
    else copy_wait<STAGES - 1>();
    if (SYNC) sync_block();
    fetch(chunk + STAGES - 1);
    const unsigned char *at = memory + chunk % STAGES * 16384, *bt = at + 8192;
    for (int k = 0; k < 64; k += 32) {
      uint32_t x[2][4];
      for (int m = 0; m < 2; ++m) load_matrices(x[m], at + swizzled(warp * 32 + m * 16 + lane % 16, k + lane / 16 * 16));
      for (int n = 0; n < 16; n += 2) {
        uint32_t y[4];
        load_matrices(y, bt + swizzled(n * 8 + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 16));
        for (int m = 0; m < 2; ++m) multiply_s8(c[m][n], x[m], y[0], y[1]), multiply_s8(c[m][n + 1], x[m], y[2], y[3]);
      }
    }
  }
  for (int m = 0; m < 2; ++m)
    for (int n = 0; n < 16; ++n)
      for (int e = 0; e < 4; ++e)
        sum[(warp * 32 + m * 16 + lane / 4 + e / 2 * 8) * 128 + n * 8 + lane % 4 * 2 + e % 2] = c[m][n][e];
}

template <int STAGES, bool WAIT, bool SYNC>
bool tile_is_right(int chunks) {
  OnDevice on;
  const auto a = random_values<int8_t>(size_t(128 * 64 * chunks)), b = random_values<int8_t>(size_t(128 * 64 * chunks));
  auto* sum = on.room<int32_t>(128 * 128);
  launch("tile", tile_kernel<STAGES, WAIT, SYNC>, 1, 128, STAGES * 16384, on.stream, 1, static_cast<const int8_t*>(on.copy(a)),
         static_cast<const int8_t*>(on.copy(b)), sum, chunks);
  return on.read(sum, 128 * 128) == product(a, b, 128, 128, 64 * chunks);
}

void tiles() {
  for (int chunks : {1, 2, 3, 7}) CHECK((tile_is_right<3, true, true>(chunks)));
}

void speed() {
  double best = 1e9;
  OnDevice on;
  const auto a = random_values<int8_t>(128 * 64);
  const int8_t* at = on.copy(a);
  auto* sum = on.room<int32_t>(128 * 128);
  for (int i = 0; i < 5; ++i) {
    const Mark from = mark(on.stream);
    launch("tile", tile_kernel<2, true, true>, 1, 128, 32768, on.stream, 1, at, at, sum, 1);
    best = std::min(best, double(milliseconds(from, mark(on.stream))));
  }
  printf("a 128 x 128 x 64 tile took %.2f ms\n", best);
}

}  // namespace

Cases ampere_tests() { return {{"fragments", fragments}, {"tiles", tiles}, {"speed", speed}}; }

Cases ampere_mistakes() {
  return {{"too_few_waits", [] { if (!tile_is_right<3, false, true>(3)) noticed(); }},
          {"no_sync_in_a_pipeline", [] { if (!tile_is_right<3, true, false>(7)) noticed(); }}};
}

}  // namespace gpu::self_test

// sm_90: matrix products of a warpgroup.
#include "self_test.h"

namespace gpu::self_test {

namespace {

enum Mistake {
  NONE, READ_EARLY, WRITE_EARLY, OVERWRITE, NO_FENCE, EXIT_EARLY, OTHER_DESCRIPTOR, WRONG_MODE, OUTSIDE, WAIT_ONLY
};

// Positions of codes [rows, 64 chunks] as the kernel's memory wants them: chunks of [rows, 64 bytes], swizzled.
std::vector<int8_t> arranged(const std::vector<int8_t>& codes, int rows, int chunks) {
  std::vector<int8_t> out(codes.size());
  for (int row = 0; row < rows; ++row)
    for (int byte = 0; byte < 64 * chunks; ++byte) {
      const int within = row * 64 + byte % 64;                   // of a chunk
      const int swizzled = within ^ ((within >> 7 & 3) << 4);    // CUTLASS: Swizzle<2, 4, 3>
      out[size_t(byte / 64 * rows * 64 + swizzled)] = codes[size_t(row * 64 * chunks + byte)];
    }
  return out;
}

// Two warpgroups, 64 rows each, against 256 columns, the third fetches; up to one product group left under way.
template <Mistake MISTAKE>
__global__ void wgmma_kernel(const int8_t* a, const int8_t* b, int32_t* sum, int chunks) {
  GPU_SHARED_MEMORY(memory);
  constexpr int A = 128 * 64, B = 256 * 64;
  const auto stage = [&](int chunk) { return memory + chunk % 2 * (A + B); };
  auto* const full = reinterpret_cast<uint64_t*>(memory + 2 * (A + B));
  auto* const empty = full + 2;
  const int group = int(threadIdx.x) / 128, thread = int(threadIdx.x) % 128;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 256);
    barrier_init_fence();
  }
  sync_block();
  if (group == 2) {
    shrink_registers<40>();
    for (int c = 0; thread == 0 && c < chunks; ++c) {
      barrier_wait(empty + c % 2, uint32_t(c / 2 % 2) ^ 1);
      barrier_expect(full + c % 2, A + B);
      bulk_copy(stage(c), a + c * A, A, full + c % 2);
      bulk_copy(stage(c) + A, b + c * B, B, full + c % 2);
    }
    return;
  }
  grow_registers<232>();
  int32_t s[128];
  for (int i = 0; i < 128; ++i) s[i] = 1000 * i;
  for (int c = 0; c < chunks; ++c) {
    barrier_wait(full + c % 2, uint32_t(c / 2 % 2));
    uint64_t x = matrix_descriptor(stage(c) + group * 64 * 64);
    const uint64_t y = matrix_descriptor(stage(c) + A);
    if (MISTAKE == OTHER_DESCRIPTOR && thread >= 96) x += 512 / 16;
    if (MISTAKE == WRONG_MODE) x ^= 1ull << 62;
    if (MISTAKE == OUTSIDE) x += (2 * (A + B)) / 16;
    if (MISTAKE != NO_FENCE) multiply_fence();
    multiply_64x256(s, x, y);
    multiply_64x256(s, x + 2, y + 2);
    multiply_commit();
    if (MISTAKE == WRITE_EARLY) s[5] += 1;
    if (MISTAKE == OVERWRITE) barrier_arrive(empty + c % 2);
    if (c > 0) {
      multiply_wait<1>();
      if (MISTAKE != OVERWRITE) barrier_arrive(empty + (c - 1) % 2);
    }
  }
  if (MISTAKE == EXIT_EARLY) return;
  if (MISTAKE == WAIT_ONLY) multiply_wait<0>();
  if (MISTAKE != READ_EARLY && MISTAKE != WAIT_ONLY) multiply_finish(s);
  for (int i = 0; i < 128; ++i) {
    const int at = position({{4, 128}, {8, 1}, {4, 16}}, thread) + position({{2, 64}, {2, 8}, {32, 512}}, i);  // CLayout_64x256
    sum[(group * 64 + at % 64) * 256 + at / 64] = s[i];
  }
  if (MISTAKE == READ_EARLY) multiply_finish(s);
}

template <Mistake MISTAKE>
std::vector<int32_t> wgmma_sums(int chunks, bool* right) {
  OnDevice on;
  const auto a = random_values<int8_t>(size_t(128 * 64 * chunks)), b = random_values<int8_t>(size_t(256 * 64 * chunks));
  auto* sum = on.room<int32_t>(128 * 256);
  launch("wgmma", wgmma_kernel<MISTAKE>, 1, 384, 2 * 384 * 64 + 32, on.stream, 1,
         static_cast<const int8_t*>(on.copy(arranged(a, 128, chunks))), static_cast<const int8_t*>(on.copy(arranged(b, 256, chunks))),
         sum, chunks);
  auto result = on.read(sum, 128 * 256), expected = product(a, b, 128, 256, 64 * chunks);
  for (int row = 0; row < 128; ++row)
    for (int column = 0; column < 256; ++column) {
      const int i = column / 8 * 4 + row % 64 / 8 % 2 * 2 + column % 2;  // the register, PTX's way
      expected[size_t(row * 256 + column)] += 1000 * i;
    }
  *right = result == expected;
  return result;
}

void wgmma() {
  for (int chunks : {1, 2, 5}) {
    bool right = false;
    wgmma_sums<NONE>(chunks, &right);
    CHECK(right);
  }
}

template <Mistake MISTAKE>
void mistaken_wgmma() {
  bool right = true;
  if (has_poison(wgmma_sums<MISTAKE>(MISTAKE == OVERWRITE ? 4 : 2, &right))) noticed();
}

}  // namespace

Cases wgmma_tests() { return {{"wgmma", wgmma}}; }

Cases wgmma_mistakes() {
  return {{"sums_read_early", mistaken_wgmma<READ_EARLY>}, {"sums_not_finished", mistaken_wgmma<WAIT_ONLY>},
          {"sums_written_early", mistaken_wgmma<WRITE_EARLY>}, {"operands_overwritten", mistaken_wgmma<OVERWRITE>},
          {"no_multiply_fence", mistaken_wgmma<NO_FENCE>}, {"exit_before_finish", mistaken_wgmma<EXIT_EARLY>},
          {"other_descriptor", mistaken_wgmma<OTHER_DESCRIPTOR>}, {"wrong_swizzle", mistaken_wgmma<WRONG_MODE>},
          {"descriptor_outside", mistaken_wgmma<OUTSIDE>}};
}

}  // namespace gpu::self_test

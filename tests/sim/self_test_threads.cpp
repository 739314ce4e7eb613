// Threads of a warp and of a block, atomics, arithmetic.
#include <cfenv>

#include "self_test.h"

namespace gpu::self_test {

namespace {

// ---- warps

__global__ void warp_kernel(uint32_t* bits, float* from, int* exchanged, double* sums) {
  const int thread = int(threadIdx.x), lane = thread % 32, at = int(blockIdx.x * blockDim.x) + thread;
  bits[at] = ballot((lane * 7 + int(blockIdx.x)) % 3 == 0);
  from[at] = shuffle(float(at), lane * 5 + 1);
  exchanged[at] = shuffle_xor(at, 5);
  double sum = at;
  for (int mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
  sums[at] = sum;
  sync_warp();
}

void warps() {
  OnDevice on;
  const int blocks = 5, threads = 96, count = blocks * threads;
  auto *bits = on.room<uint32_t>(count);
  auto *from = on.room<float>(count);
  auto *exchanged = on.room<int>(count);
  auto *sums = on.room<double>(count);
  launch("warp", warp_kernel, blocks, threads, 0, on.stream, 1, bits, from, exchanged, sums);
  const auto b = on.read(bits, count);
  const auto f = on.read(from, count);
  const auto x = on.read(exchanged, count);
  const auto s = on.read(sums, count);
  for (int i = 0; i < count; ++i) {
    const int lane = i % 32, first = i - lane;
    uint32_t expected = 0;
    for (int other = 0; other < 32; ++other) expected |= uint32_t((other * 7 + i / threads) % 3 == 0) << other;
    CHECK(b[i] == expected);
    CHECK(f[i] == float(first + (lane * 5 + 1) % 32));
    CHECK(x[i] == first + (lane ^ 5));
    CHECK(s[i] == 32.0 * first + 496);
  }
}

// ---- blocks

__global__ void reverse_kernel(const int* in, int* out) {
  GPU_SHARED_MEMORY(memory);
  int* const values = reinterpret_cast<int*>(memory);
  const int thread = int(threadIdx.x), size = int(blockDim.x);
  for (int round = 0; round < 3; ++round) {
    values[thread] = round ? out[int(blockIdx.x) * size + thread] : in[int(blockIdx.x) * size + thread];
    sync_block();
    out[int(blockIdx.x) * size + thread] = values[size - 1 - thread] + int(gridDim.x);
    sync_block();
  }
}

void blocks() {
  OnDevice on;
  const int blocks = 4, threads = 512;
  const auto in = random_values<int>(blocks * threads);
  int *device = on.copy(in), *out = on.room<int>(in.size());
  launch("reverse", reverse_kernel, blocks, threads, threads * sizeof(int), on.stream, 1, device, out);
  const auto result = on.read(out, in.size());
  for (int i = 0; i < int(in.size()); ++i)
    CHECK(result[i] == int(unsigned(in[i / threads * threads + threads - 1 - i % threads]) + 3u * blocks));
}

// Two warps hand a word back and forth over barriers 1 (full) and 2 (empty); two more meet at barrier 3.
__global__ void named_kernel(uint32_t* out) {
  GPU_SHARED_MEMORY(memory);
  auto* const word = reinterpret_cast<volatile uint32_t*>(memory);
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  for (uint32_t turn = 0; turn < 10; ++turn) {
    if (warp == 0) {
      if (turn) named_wait(2, 64);
      if (lane == 0) *word = turn * turn;
      named_arrive(1, 64);
    } else if (warp == 1) {
      named_wait(1, 64);
      out[turn * 32 + lane] = *word;
      if (turn < 9) named_arrive(2, 64);
    } else {
      if (lane == 3) word[warp] = turn + warp;
      named_wait(3, 64);
      out[320 + (turn * 2 + warp - 2) * 32 + lane] = word[5 - warp];
      named_wait(3, 64);
    }
  }
}

void named_barriers() {
  OnDevice on;
  auto* out = on.room<uint32_t>(960);
  launch("named", named_kernel, 3, 128, 64, on.stream, 1, out);
  const auto result = on.read(out, 960);
  for (uint32_t turn = 0; turn < 10; ++turn)
    for (uint32_t lane = 0; lane < 32; ++lane) {
      CHECK(result[turn * 32 + lane] == turn * turn);
      for (uint32_t warp = 2; warp < 4; ++warp) CHECK(result[320 + (turn * 2 + warp - 2) * 32 + lane] == turn + 5 - warp);
    }
}

// ---- atomics

__global__ void atomic_kernel(const uint32_t* in, uint32_t* counts, unsigned long long* sum, uint32_t* ends, unsigned long long* best,
                              uint32_t* slots) {
  const uint32_t value = in[blockIdx.x * blockDim.x + threadIdx.x];
  slots[atomic_add(counts, 1u)] = value;
  atomic_add(counts + 1 + value % 7, 1u);
  atomic_add(sum, static_cast<unsigned long long>(value));
  atomic_min(ends, value);
  atomic_max(ends + 1, value);
  unsigned long long old = *best;
  while ((old ^ 0x5555) < (value ^ 0x5555ull)) {
    const unsigned long long found = atomic_cas(best, old, value);
    if (found == old) break;
    old = found;
  }
}

void atomics() {
  OnDevice on;
  const auto in = random_values<uint32_t>(1024);
  auto* counts = on.copy(std::vector<uint32_t>(8));
  auto* sum = on.copy(std::vector<unsigned long long>(1));
  auto* ends = on.copy(std::vector<uint32_t>{~0u, 0u});
  auto* best = on.copy(std::vector<unsigned long long>{0x5555});
  auto* slots = on.room<uint32_t>(in.size());
  launch("atomic", atomic_kernel, 8, 128, 0, on.stream, 1, static_cast<const uint32_t*>(on.copy(in)), counts, sum, ends, best, slots);
  std::vector<uint32_t> expected(8), sorted = in, taken = on.read(slots, in.size());
  unsigned long long total = 0, most = 0;
  for (uint32_t value : in) ++expected[0], ++expected[1 + value % 7], total += value, most = std::max(most, value ^ 0x5555ull);
  std::sort(sorted.begin(), sorted.end()), std::sort(taken.begin(), taken.end());
  CHECK(on.read(counts, 8) == expected);
  CHECK(on.read(sum, 1)[0] == total);
  CHECK(on.read(ends, 2) == (std::vector<uint32_t>{sorted[0], sorted.back()}));
  CHECK((on.read(best, 1)[0] ^ 0x5555) == most);
  CHECK(taken == sorted);
}

// ---- arithmetic

template <class F>
float rounded_up(F compute) {
  std::fesetround(FE_UPWARD);
  const float out = compute();
  std::fesetround(FE_TONEAREST);
  return out;
}

bool same_bits(float a, float b) { return float_to_bits(a) == float_to_bits(b) || (std::isnan(a) && std::isnan(b)); }

void arithmetic() {
  std::vector<float> special = {0.0f, -0.0f, 1.0f, -1.0f, 0x1p-149f, -0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f,
                                INFINITY, -INFINITY, NAN, 0x1.000002p0f, 0x1.fffffep-1f, 3.0f, 0x1p-75f};
  const size_t specials = special.size();
  for (int i = 0; i < 400000; ++i) {
    volatile float a = bits_to_float(uint32_t(dice())), b = bits_to_float(uint32_t(dice()));
    if (i < int(specials * specials)) {
      a = special[size_t(i) / specials];
      b = special[size_t(i) % specials];
    } else if (i % 2) b = a * bits_to_float(0x3f000000u + uint32_t(dice() % 0x1000000u)) * (i % 4 < 2 ? 1 : -1);  // of like size
    CHECK(same_bits(add_up(a, b), rounded_up([&] { volatile float x = a + b; return x; })));
    CHECK(same_bits(mul_up(a, b), rounded_up([&] { volatile float x = a * b; return x; })));
    volatile double wide = std::bit_cast<double>(dice());
    if (i % 2) wide = double(a) * (1 + double(dice() % 9) * 0x1p-40);
    CHECK(same_bits(round_up(wide), rounded_up([&] { volatile float x = float(wide); return x; })));
    volatile float sum = a + b, difference = a - b, times = a * b;
    CHECK(same_bits(add_rn(a, b), sum) && same_bits(sub_rn(a, b), difference) && same_bits(mul_rn(a, b), times));
  }
  const float third = 1.0f / 3;
  CHECK(add_rn(mul_rn(third, third), -mul_rn(third, third)) == 0);  // a fused multiply-add would leave the error
  CHECK(sqrt_rn(2.0f) == 0x1.6a09e6p0f);
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    float expected = exponent ? std::ldexp(1024.0f + float(fraction), exponent - 25) : std::ldexp(float(fraction), -24);
    if (exponent == 31) expected = fraction ? NAN : INFINITY;
    CHECK(same_bits(half_to_float(uint16_t(bits)), bits & 0x8000 ? -expected : expected));
  }
  CHECK(first_bit(0) == -1 && first_bit(0x80000000u) == 31 && first_bit(6) == 1);
}

}  // namespace

Cases threads_tests() {
  return {{"warps", warps}, {"blocks", blocks}, {"named_barriers", named_barriers}, {"atomics", atomics},
          {"arithmetic", arithmetic}};
}

}  // namespace gpu::self_test

// The simulator's own tests: every wrapper against plain loops, and mistakes that it must notice.
//   self_test              all that must succeed; prints their names
//   self_test --mistakes   prints the names of the mistakes
//   self_test NAME         one of either; a mistake aborts, or ends with "noticed" where its result shows it
// tests/test_gpu_sim.py runs them, each mistake in a process of its own.
#include <cfenv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "control.h"
#include "gpu.cuh"

namespace {

using namespace gpu;

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), exit(1); \
  } while (0)

// ---- help

std::mt19937_64 dice(12345);

template <class T>
std::vector<T> random_values(size_t count) {
  std::vector<T> out(count);
  for (T& value : out) value = T(dice());
  return out;
}

void wait(Stream stream) {
  while (!idle(stream)) {
  }
}

struct OnDevice {  // a stream, and memory that is given back
  Stream stream = stream_create();
  std::vector<void*> memory;
  template <class T>
  T* room(size_t count) {
    memory.push_back(allocate(count * sizeof(T), stream));
    return static_cast<T*>(memory.back());
  }
  template <class T>
  T* copy(const std::vector<T>& values) {
    T* at = room<T>(values.size());
    to_device(at, values.data(), values.size() * sizeof(T), stream);
    return at;
  }
  template <class T>
  std::vector<T> read(const T* at, size_t count) {
    std::vector<T> out(count);
    to_host(out.data(), at, count * sizeof(T), stream);
    wait(stream);
    return out;
  }
  ~OnDevice() {
    for (void* at : memory) release(at, stream);
    wait(stream);
    stream_destroy(stream);
  }
};

// a [n, k] b [m, k]^T
std::vector<int32_t> product(const std::vector<int8_t>& a, const std::vector<int8_t>& b, int n, int m, int k) {
  std::vector<int32_t> out(size_t(n) * m);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < m; ++j)
      for (int c = 0; c < k; ++c) out[size_t(i) * m + j] += int32_t(a[size_t(i) * k + c]) * b[size_t(j) * k + c];
  return out;
}

[[noreturn]] void noticed() {
  printf("noticed\n");
  exit(0);
}

bool has_poison(const std::vector<int32_t>& values) {
  for (int32_t value : values)
    if (uint32_t(value) == sim::POISON) return true;
  return false;
}

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

// ---- sm_80: asynchronous copies, ldmatrix, mma

// A layout in CUTLASS's way of writing: (thread, value) to a position in a column-major matrix.
struct Mode {
  int size, stride;
};
int position(std::initializer_list<Mode> modes, int index) {
  int out = 0;
  for (const Mode& mode : modes) out += index % mode.size * mode.stride, index /= mode.size;
  return out;
}

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

// ---- sm_90: barriers and bulk copies

constexpr int PIECE = 1024;  // bytes

// Warp 0 fetches pieces through a ring of four; warps 1 and 2 add one and write them out in turn.
__global__ void ring_kernel(const unsigned char* in, unsigned char* out, int pieces) {
  GPU_SHARED_MEMORY(memory);
  auto* const full = reinterpret_cast<uint64_t*>(memory + 4 * PIECE);
  auto* const empty = full + 4;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 4; ++i) barrier_init(full + i, 1), barrier_init(empty + i, 32);
    barrier_init_fence();
  }
  sync_block();
  if (warp == 0) {
    for (int p = 0; p < pieces && lane == 0; ++p) {
      barrier_wait(empty + p % 4, uint32_t(p / 4 % 2) ^ 1);
      barrier_expect(full + p % 4, PIECE);
      bulk_copy(memory + p % 4 * PIECE, in + p * PIECE, 256, full + p % 4);
      bulk_copy(memory + p % 4 * PIECE + 256, in + p * PIECE + 256, PIECE - 256, full + p % 4);
    }
    return;
  }
  for (int p = warp - 1; p < pieces; p += 2) {
    barrier_wait(full + p % 4, uint32_t(p / 4 % 2));
    for (int i = lane; i < PIECE; i += 32) out[p * PIECE + i] = static_cast<unsigned char>(memory[p % 4 * PIECE + i] + 1);
    barrier_arrive(empty + p % 4);
  }
}

void rings() {
  for (int pieces : {1, 4, 5, 23}) {
    OnDevice on;
    const auto in = random_values<unsigned char>(size_t(pieces * PIECE));
    auto* out = on.room<unsigned char>(in.size());
    launch("ring", ring_kernel, 1, 96, 4 * PIECE + 64, on.stream, 1, static_cast<const unsigned char*>(on.copy(in)), out, pieces);
    const auto result = on.read(out, in.size());
    for (size_t i = 0; i < in.size(); ++i) CHECK(result[i] == static_cast<unsigned char>(in[i] + 1));
  }
}

// ---- sm_90: wgmma

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

// ---- sm_90: clusters

// Block 0 of each pair fetches for both; block 1 tells it when its copy is used up.
__global__ void cluster_kernel(const int* in, int* out, int rounds) {
  GPU_SHARED_MEMORY(memory);
  auto* const values = reinterpret_cast<int*>(memory);
  auto* const full = reinterpret_cast<uint64_t*>(memory + 256);
  auto* const empty = full + 1;
  const uint32_t rank = cluster_rank();
  const int thread = int(threadIdx.x), pair = int(blockIdx.x) / 2;
  if (thread == 0) barrier_init(full, 1), barrier_init(empty, 128), barrier_init_fence();
  cluster_sync();
  for (int round = 0; round < rounds; ++round) {
    if (thread == 0) {
      barrier_expect(full, 256);
      if (rank == 0) {
        barrier_wait(empty, uint32_t(round % 2) ^ 1);
        bulk_copy_to_all(values, in + (pair * rounds + round) * 64, 256, full, 3);
      }
    }
    barrier_wait(full, uint32_t(round % 2));
    out[(int(blockIdx.x) * rounds + round) * 64 + thread] = values[thread] + int(rank);
    barrier_arrive_at(empty, 0);
  }
  cluster_sync();
}

// A warpgroup that wants registers waits for whoever gives them up, and all 504 of three threads may be shared out.
template <int FEW, int MANY>
__global__ void registers_kernel(int* out) {
  if (threadIdx.x >= 256) shrink_registers<FEW>();
  else grow_registers<MANY>();
  out[threadIdx.x] = 1;
}

void registers() {
  OnDevice on;
  int* out = on.room<int>(384);
  for (const auto kernel : {registers_kernel<40, 232>, registers_kernel<56, 224>, registers_kernel<24, 240>}) {
    fill(out, 0, 384 * sizeof(int), on.stream);
    launch("registers", kernel, 3, 384, 0, on.stream, 1, out);
    CHECK(on.read(out, 384) == std::vector<int>(384, 1));
  }
}

void clusters() {
  OnDevice on;
  const int blocks = 6, rounds = 5;
  const auto in = random_values<int>(blocks / 2 * rounds * 64);
  int* out = on.room<int>(blocks * rounds * 64);
  launch("cluster", cluster_kernel, blocks, 64, 256 + 16, on.stream, 2, static_cast<const int*>(on.copy(in)), out, rounds);
  const auto result = on.read(out, blocks * rounds * 64);
  for (int i = 0; i < blocks * rounds * 64; ++i) {
    const int block = i / (rounds * 64), rest = i % (rounds * 64);
    CHECK(result[size_t(i)] == int(unsigned(in[size_t(block / 2 * rounds * 64 + rest)]) + unsigned(block % 2)));
  }
}

// ---- the host's side

__global__ void add_kernel(int* values, int count, int much) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += much;
}

template <class F>
std::string error_of(F call) {
  try {
    call();
  } catch (const OutOfMemory& error) {
    return std::string("out of memory: ") + error.what();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void memory() {
  CHECK(device_count() == 2 && facts(1).name == "simulated" && facts(0).major == 9 && facts(0).minor == 0);
  setenv("CLIPSCAN_SIM_CAPABILITY", "8.0", 1);
  CHECK(facts(0).major == 8);
  unsetenv("CLIPSCAN_SIM_CAPABILITY");
  CHECK(contains(error_of([] { use(2); }), "invalid device"));

  CHECK(live_bytes() == 0 && live_pinned_bytes() == 0 && live_streams() == 0);
  setenv("CLIPSCAN_SIM_MEMORY", "1000000", 1);
  Stream stream = stream_create();
  void* most = allocate(900000, stream);
  CHECK(live_bytes() == 900000 && free_memory() == 100000);
  CHECK(contains(error_of([&] { allocate(200000, stream); }), "out of memory: allocating 200000 bytes"));
  release(most, stream);
  release(allocate(200000, stream), stream);
  unsetenv("CLIPSCAN_SIM_MEMORY");
  void* pinned = allocate_pinned(100);
  CHECK(live_pinned_bytes() == 100);
  release_pinned(pinned);
  void* nothing = allocate(0, stream);
  CHECK(nothing);
  uint32_t word = 0;
  to_host(&word, nothing, 4, stream);
  wait(stream);
  CHECK(std::isnan(bits_to_float(word)));  // nobody wrote there
  release(nothing, stream);
  stream_destroy(stream);
  CHECK(live_bytes() == 0 && live_pinned_bytes() == 0 && live_streams() == 0);
}

void streams() {
  OnDevice on;
  std::vector<int> values = random_values<int>(100);
  auto* pinned = static_cast<int*>(allocate_pinned(400));
  int *device = on.copy(values), *other = on.room<int>(100);
  Stream second = stream_create();
  const auto before = launches();
  launch("add", add_kernel, 1, 128, 0, on.stream, 1, device, 100, 5);
  launch("add", add_kernel, 0, 128, 0, on.stream, 1, device, 100, 5);
  stream_wait(second, on.stream);
  between_devices(other, device, 400, second);
  to_host(pinned, other, 400, second);
  wait(second);
  CHECK(launches() == before + 1);
  for (int i = 0; i < 100; ++i) CHECK(pinned[i] == int(unsigned(values[size_t(i)]) + 5u));
  fill(other, 0x3f, 200, nullptr);
  stream_wait(second, nullptr);
  to_device(device, pinned, 400, second);
  use(1), wait_for_everything(), use(0);  // of another device: nothing has happened yet
  CHECK(launches() == before + 1);
  wait_for_everything();
  CHECK(on.read(other, 50)[49] == 0x3f3f3f3f);
  const Mark from = mark(second), to = mark(second);
  CHECK(milliseconds(from, to) >= 0);
  use(1);
  CHECK(contains(error_of([&] { launch("add", add_kernel, 1, 128, 0, second, 1, device, 100, 5); }), "another device"));
  use(0);
  CHECK(contains(error_of([&] { launch("add", add_kernel, 1, 128, 300 << 10, second, 1, device, 100, 5); }), "232448 bytes"));
  release_pinned(pinned);
  stream_destroy(second);
}

void devices() {  // a host thread for each
  std::vector<std::thread> threads;
  for (int device = 0; device < 2; ++device)
    threads.emplace_back([device] {
      use(device);
      OnDevice on;
      int* values = on.copy(std::vector<int>(1000, device));
      for (int i = 0; i < 50; ++i) {
        launch("add", add_kernel, 8, 128, 0, on.stream, 1, values, 1000, i);
        if (i % 7 == 0) wait(on.stream);
      }
      CHECK(on.read(values, 1000) == std::vector<int>(1000, device + 1225));
    });
  for (auto& thread : threads) thread.join();
}

void failures() {
  setenv("CLIPSCAN_SIM_FAIL", "3", 1);
  Stream stream = stream_create();
  void* at = allocate(64, stream);
  CHECK(contains(error_of([&] { fill(at, 0, 64, stream); }), "simulated failure"));
  CHECK(error_of([&] { fill(at, 0, 64, stream); }).empty());
  setenv("CLIPSCAN_SIM_FAIL", "2+", 1);
  wait(stream);
  CHECK(contains(error_of([&] { wait(stream); }), "simulated failure"));
  CHECK(contains(error_of([&] { launch("add", add_kernel, 1, 128, 0, stream, 1, static_cast<int*>(at), 1, 5); }), "launching add"));
  unsetenv("CLIPSCAN_SIM_FAIL");
  release(at, stream);
  stream_destroy(stream);
  device_count();
  CHECK(calls() == 1);
}

// ---- mistakes

template <class Kernel>
void run_mistaken(Kernel kernel, int threads = 64, size_t shared = 1024, int blocks = 1, int cluster = 1) {
  OnDevice on;
  auto* out = on.room<int32_t>(4096);
  launch("mistaken", kernel, blocks, threads, shared, on.stream, cluster, out);
  if (has_poison(on.read(out, size_t(threads)))) noticed();
}

__global__ void no_wait(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  copy16_async(memory + threadIdx.x * 16, out + threadIdx.x * 4);
  copy_commit();
  sync_block();
  out[threadIdx.x] = reinterpret_cast<int32_t*>(memory)[threadIdx.x * 4];
}
__global__ void no_sync(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  auto* const values = reinterpret_cast<int32_t*>(memory);
  values[threadIdx.x] = 7;
  out[threadIdx.x] = values[(threadIdx.x + 32) % 64];
}
__global__ void different_calls(int32_t* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = int32_t(ballot(true));
  else out[threadIdx.x] = shuffle(1, 0);
}
__global__ void different_ballots(int32_t* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = int32_t(ballot(true));
  else out[threadIdx.x] = int32_t(ballot(false));
}
__global__ void exited_lane(int32_t* out) {
  if (threadIdx.x == 40) return;
  out[threadIdx.x] = int32_t(ballot(true));
}
__global__ void exited_thread(int32_t*) {
  if (threadIdx.x >= 32) return;
  sync_block();
}
__global__ void deadlock(int32_t*) {
  if (threadIdx.x < 32) named_wait(1, 64);
  else named_wait(2, 64);
}
__global__ void arrives_twice(int32_t*) {
  if (threadIdx.x < 32) named_arrive(1, 96), named_arrive(1, 96);
  else if (threadIdx.x < 64) named_wait(1, 96);
}
__global__ void runs_ahead(int32_t* out) {  // seen only where the second warp falls far behind
  out[threadIdx.x] = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; threadIdx.x < 32 && i < 20; ++i) sync_warp();
    if (threadIdx.x < 32) named_arrive(1, 64);
    else named_wait(1, 64);
  }
}
__global__ void misaligned_load(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  uint32_t x[4];
  load_matrices(x, memory + threadIdx.x % 32 * 16 + 8);
  out[threadIdx.x] = int32_t(x[0]);
}
__global__ void load_outside(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  uint32_t x[4];
  load_matrices(x, memory + threadIdx.x * 32);
  out[threadIdx.x] = int32_t(x[0]);
}
__global__ void misaligned_source(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  copy16_async(memory + threadIdx.x * 16, out + threadIdx.x);
}
__global__ void written_in_flight(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  copy16_async(memory + threadIdx.x * 16, out + threadIdx.x * 4);
  copy_commit();
  reinterpret_cast<int32_t*>(memory)[threadIdx.x * 4] = 1;
  copy_wait<0>();
}
__global__ void past_shared(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  memory[1024 + threadIdx.x] = 1;
}
__global__ void past_allocation(int32_t* out) { out[4096 + threadIdx.x / 32] = 1; }
__global__ void read_past_allocation(int32_t* out) { out[threadIdx.x] = out[4096]; }
__global__ void too_deep(int32_t* out) {
  volatile char much[600 << 10];
  for (size_t i = 0; i < sizeof much; i += 64) much[sizeof much - 1 - i] = 1;
  out[threadIdx.x] = much[threadIdx.x];
}

struct Barriers {
  uint64_t* at;
  __device__ Barriers(unsigned char* memory, uint32_t arrivals, bool fence = true) : at(reinterpret_cast<uint64_t*>(memory + 512)) {
    if (threadIdx.x == 0) barrier_init(at, arrivals);
    if (threadIdx.x == 0 && fence) barrier_init_fence();
    sync_block();
  }
};
__global__ void bulk_without_wait(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 256), bulk_copy(memory, out, 256, barrier.at);
  sync_block();
  out[threadIdx.x] = reinterpret_cast<int32_t*>(memory)[threadIdx.x];
  sync_block();
  barrier_wait(barrier.at, 0);
}
__global__ void bulk_under_way(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 256), bulk_copy(memory, out, 256, barrier.at);
}
__global__ void bulk_not_expected(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 512), bulk_copy(memory, out, 256, barrier.at);
  barrier_wait(barrier.at, 0);
}
__global__ void bulk_of_odd_size(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) bulk_copy(memory, out, 24, barrier.at);
}
__global__ void bulk_outside(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) bulk_copy(memory + 1008, out, 32, barrier.at);
}
__global__ void bulk_written_in_flight(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 1);
  if (threadIdx.x == 0) barrier_expect(barrier.at, 256), bulk_copy(memory, out, 256, barrier.at);
  sync_block();
  memory[threadIdx.x] = 1;
  barrier_wait(barrier.at, 0);
}
__global__ void no_init_fence(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 64, false);
  barrier_arrive(barrier.at);
}
__global__ void no_init(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  barrier_arrive(reinterpret_cast<uint64_t*>(memory));
}
__global__ void init_without_sync(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  if (threadIdx.x == 0) barrier_init(reinterpret_cast<uint64_t*>(memory), 64), barrier_init_fence();
  barrier_arrive(reinterpret_cast<uint64_t*>(memory));
}
__global__ void misaligned_barrier(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  barrier_arrive(reinterpret_cast<uint64_t*>(memory + 4));
}
__global__ void too_many_arrivals(int32_t* out) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 2);
  if (threadIdx.x == 0) bulk_copy(memory, out, 16, barrier.at), barrier_expect(barrier.at, 32), barrier_arrive(barrier.at);
  sync_block();
  barrier_arrive(barrier.at);
}
__global__ void absent_block(int32_t*) {
  GPU_SHARED_MEMORY(memory);
  const Barriers barrier(memory, 64);
  cluster_sync();
  if (cluster_rank() == 1) return;
  for (int i = 0; i < 100; ++i) sync_block();
  barrier_arrive_at(barrier.at, 1);
}

// Of 384 threads, which start with 168 each: two warpgroups of three want more, and the third gives up too little, or nothing.
__global__ void registers_that_never_come(int32_t*) {
  if (threadIdx.x < 128) shrink_registers<64>();
  else grow_registers<224>();
}
__global__ void registers_not_given_up(int32_t*) {
  if (threadIdx.x >= 128) grow_registers<232>();
}

template <Mistake MISTAKE>
void mistaken_wgmma() {
  bool right = true;
  if (has_poison(wgmma_sums<MISTAKE>(MISTAKE == OVERWRITE ? 4 : 2, &right))) noticed();
}

void read_before_synchronize() {
  OnDevice on;
  int* device = on.copy(std::vector<int>(8, 3));
  std::vector<int> out(8, 3);
  to_host(out.data(), device, 32, on.stream);
  const bool early = has_poison(out);
  wait(on.stream);
  if (early && out[7] == 3) noticed();
}

void no_stream_wait() {
  OnDevice first, second;
  int* device = first.copy(std::vector<int>(8, 3));
  if (has_poison(second.read(device, 8))) noticed();
}

void released_twice() {
  OnDevice on;
  void* at = allocate(16, on.stream);
  release(at, on.stream), release(at, on.stream);
}

void copied_past_the_end() {
  OnDevice on;
  std::vector<int> values(5);
  to_device(on.room<int>(4), values.data(), 20, on.stream);
}

void hopper_call_on_ampere() {
  setenv("CLIPSCAN_SIM_CAPABILITY", "8.0", 1);
  run_mistaken(no_init);
}

const std::map<std::string, void (*)()> TESTS = {
    {"warps", warps}, {"blocks", blocks}, {"named_barriers", named_barriers}, {"atomics", atomics}, {"arithmetic", arithmetic},
    {"fragments", fragments}, {"tiles", tiles}, {"speed", speed}, {"rings", rings}, {"wgmma", wgmma}, {"registers", registers},
    {"clusters", clusters}, {"memory", memory}, {"streams", streams}, {"devices", devices}, {"failures", failures}};

#define MISTAKEN(kernel, ...) {#kernel, [] { run_mistaken(kernel __VA_OPT__(,) __VA_ARGS__); }}
const std::map<std::string, void (*)()> MISTAKES = {
    MISTAKEN(no_wait), MISTAKEN(no_sync), MISTAKEN(different_calls), MISTAKEN(different_ballots), MISTAKEN(exited_lane),
    MISTAKEN(exited_thread), MISTAKEN(deadlock), MISTAKEN(arrives_twice, 96), MISTAKEN(misaligned_load), MISTAKEN(load_outside),
    MISTAKEN(misaligned_source), MISTAKEN(written_in_flight), MISTAKEN(past_shared), MISTAKEN(past_allocation), MISTAKEN(read_past_allocation),
    MISTAKEN(too_deep),
    MISTAKEN(bulk_without_wait), MISTAKEN(bulk_under_way), MISTAKEN(bulk_not_expected), MISTAKEN(bulk_of_odd_size),
    MISTAKEN(bulk_outside), MISTAKEN(bulk_written_in_flight), MISTAKEN(no_init_fence), MISTAKEN(no_init),
    MISTAKEN(init_without_sync), MISTAKEN(misaligned_barrier), MISTAKEN(too_many_arrivals),
    MISTAKEN(absent_block, 64, 1024, 2, 2),
    MISTAKEN(registers_that_never_come, 384), MISTAKEN(registers_not_given_up, 384),
    {"too_few_waits", [] { if (!tile_is_right<3, false, true>(3)) noticed(); }},
    {"no_sync_in_a_pipeline", [] { if (!tile_is_right<3, true, false>(7)) noticed(); }},
    {"sums_read_early", mistaken_wgmma<READ_EARLY>}, {"sums_not_finished", mistaken_wgmma<WAIT_ONLY>},
    {"sums_written_early", mistaken_wgmma<WRITE_EARLY>}, {"operands_overwritten", mistaken_wgmma<OVERWRITE>},
    {"no_multiply_fence", mistaken_wgmma<NO_FENCE>}, {"exit_before_finish", mistaken_wgmma<EXIT_EARLY>},
    {"other_descriptor", mistaken_wgmma<OTHER_DESCRIPTOR>}, {"wrong_swizzle", mistaken_wgmma<WRONG_MODE>},
    {"descriptor_outside", mistaken_wgmma<OUTSIDE>}, {"read_before_synchronize", read_before_synchronize},
    {"no_stream_wait", no_stream_wait}, MISTAKEN(runs_ahead), {"released_twice", released_twice}, {"copied_past_the_end", copied_past_the_end},
    {"hopper_call_on_ampere", hopper_call_on_ampere}};

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "--mistakes") {
    for (const auto& [name, run] : MISTAKES) printf("%s\n", name.c_str());
    return 0;
  }
  if (MISTAKES.count(what)) {
    MISTAKES.at(what)();
    printf("not noticed\n");
    return 1;
  }
  for (const auto& [name, run] : TESTS)
    if (what.empty() || what == name) {
      run();
      CHECK(gpu::live_bytes() == 0 && gpu::live_pinned_bytes() == 0 && gpu::live_streams() == 0);
      printf("%s\n", name.c_str());
    }
  return 0;
}

// Rows -> int8 codes, their squared norms and what they leave out. The definition is clipscan/engine/reference.py:encode;
// every float operation is done in the order of clipscan/engine/codebook.py:rotate, so codes agree bit by bit.
//
// A block owns one row at a time: its numbers lie in shared memory while the butterflies of the transform run.
#include "rows.cuh"

namespace gpu {
namespace {

// Where the four codes from p on lie: p a multiple of 4.
__device__ inline int64_t code_at(int64_t row, int p, int64_t padded) {
  const int piece = p % CHUNK / 16, place = piece ^ (row / 2 % 4);
  return (int64_t(p / CHUNK) * padded + row) * CHUNK + place * 16 + p % 16;
}

// In place, unnormalised; count a power of two. Stages in order h = 1, 2, 4, ...: a + b, a - b.
__device__ void hadamard(float* y, int count) {
  for (int h = 1; h < count; h *= 2) {
    sync_block();
    for (int i = threadIdx.x; i < count / 2; i += blockDim.x) {
      const int at = i / h * 2 * h + i % h;
      const float a = y[at], b = y[at + h];
      y[at] = add_rn(a, b);
      y[at + h] = sub_rn(a, b);
    }
  }
  sync_block();
}

// The sum over the block's threads, for all of them. `scratch` [32] is shared.
__device__ float block_sum(float value, float* scratch) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) value = add_rn(value, shuffle_xor(value, mask));
  sync_block();  // scratch may still be read from the last call
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  sync_block();
  float sum = 0;
  for (int w = 0; w < int(blockDim.x) / 32; ++w) sum = add_rn(sum, scratch[w]);
  return sum;
}

__global__ void encode_kernel(EncodeTask t) {
  GPU_SHARED_MEMORY(memory);
  float* const scratch = reinterpret_cast<float*>(memory);  // [32]
  float* const y = scratch + 32;                            // [width]
  const Row row = row_at(t.rows, blockIdx.x);
  const int64_t i = t.first + blockIdx.x;
  const int width = t.width, span = t.span;

  for (int p = threadIdx.x; p < width; p += blockDim.x)
    y[p] = p < t.rows.d ? mul_rn(sub_rn(number(row, p), t.centre[p]), t.sign[p]) : 0.0f;
  hadamard(y, span);
  if (span < width) {
    for (int p = threadIdx.x; p < width; p += blockDim.x)
      y[p] = mul_rn(p < span ? mul_rn(y[p], t.shrink) : y[p], t.sign[width + p]);
    hadamard(y + width - span, span);
    for (int p = width - span + threadIdx.x; p < width; p += blockDim.x) y[p] = mul_rn(y[p], t.shrink);
    sync_block();
  }

  constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest, ties to even
  float length = 0, left = 0;
  int squares = 0;
  for (int p = threadIdx.x * 4; p < width; p += blockDim.x * 4) {
    uint32_t word = 0;
    for (int l = 0; l < 4; ++l) {
      const float x = mul_rn(y[p + l], t.gain);
      const float inside = x < -127.0f ? -127.0f : x > 127.0f ? 127.0f : x;
      const float q = sub_rn(add_rn(inside, TO_INTEGER), TO_INTEGER);
      const float e = sub_rn(x, q);
      length = add_rn(length, mul_rn(x, x));
      left = add_rn(left, mul_rn(e, e));
      squares += int(q) * int(q);
      word |= uint32_t(uint8_t(int8_t(q))) << (8 * l);
    }
    *reinterpret_cast<uint32_t*>(t.code + code_at(i, p, t.padded)) = word;
  }
#pragma unroll
  for (int mask = 16; mask; mask /= 2) squares += shuffle_xor(squares, mask);
  length = block_sum(length, scratch), left = block_sum(left, scratch);
  int* const part = reinterpret_cast<int*>(scratch);
  sync_block();
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = squares;
  sync_block();
  if (threadIdx.x) return;

  // Rounding, as in csrc/kernel_encode.inl: a step a butterfly stage and a few more on y (relative to its length), one step
  // a term on the two sums, in whatever order.
  constexpr double STEP = 1.0 / (1 << 24);
  int stages = 0;
  while ((span >> stages) > 0) ++stages;
  const double terms = 1.0 + double(width + 16) * STEP, steps = (2 * stages + 16) * STEP;
  const float error = round_up((sqrt(double(left)) * terms + sqrt(double(length)) * terms * steps) * (1 + 32 * STEP));
  int norm = 0;
  for (int w = 0; w < int(blockDim.x) / 32; ++w) norm += part[w];
  t.norm[i] = norm;
  t.error[i] = error;
  atomic_max(reinterpret_cast<uint32_t*>(t.tile_error + i / TILE), float_to_bits(error));  // positive floats sort as integers
}

// A block owns eight rows: one memory block of each chunk on the way out.
__global__ void gather_kernel(Codes from, const uint32_t* which, int64_t count, Codes to) {
  const int64_t i = int64_t(blockIdx.x) * 8 + threadIdx.x / 32;
  if (i >= count) return;
  const int64_t j = which[i];
  const int lane = threadIdx.x % 32;
  for (int word = lane; word < from.chunks * 4; word += 32) {
    const int p = word * 16;
    *reinterpret_cast<uint4*>(const_cast<int8_t*>(to.code) + code_at(i, p, to.padded)) =
        *reinterpret_cast<const uint4*>(from.code + code_at(j, p, from.padded));
  }
  if (lane) return;
  const_cast<int32_t*>(to.norm)[i] = from.norm[j];
  const_cast<float*>(to.error)[i] = from.error[j];
  atomic_max(reinterpret_cast<uint32_t*>(const_cast<float*>(to.tile_error) + i / TILE), float_to_bits(from.error[j]));
}

}  // namespace

void encode(const EncodeTask& task, Stream stream) {
  const int threads = task.width <= 256 ? 32 : task.width <= 512 ? 64 : task.width <= 1024 ? 128 : 256;
  launch("encode", encode_kernel, task.count, threads, (32 + task.width) * sizeof(float), stream, 1, task);
}

void gather_codes(const Codes& from, const uint32_t* which, int64_t count, const Codes& to, Stream stream) {
  launch("gather_codes", gather_kernel, (count + 7) / 8, 256, 0, stream, 1, from, which, count, to);
}

}  // namespace gpu

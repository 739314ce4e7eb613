// Original rows on the device, read as float32.
#pragma once
#include "gpu.cuh"
#include "kernels.h"

namespace gpu {

struct Row {
  const char* at;
  int64_t step;  // bytes from one number to the next
  Type type;
};

__device__ inline Row row_at(const Rows& rows, int64_t position) {
  const int64_t row = rows.which ? rows.which[position] : position;
  int low = 0;
  for (int high = rows.part_count - 1; low < high;) {
    const int middle = (low + high + 1) / 2;
    if (rows.parts[middle].first <= row) low = middle;
    else high = middle - 1;
  }
  const Part& part = rows.parts[low];
  return {part.data + (row - part.first) * part.row_step, part.column_step, part.type};
}

__device__ inline float number(const Row& row, int p) {
  const char* at = row.at + p * row.step;
  switch (row.type) {
    case Type::float16: return half_to_float(*reinterpret_cast<const uint16_t*>(at));
    case Type::bfloat16: return bits_to_float(uint32_t(*reinterpret_cast<const uint16_t*>(at)) << 16);
    case Type::float32: return *reinterpret_cast<const float*>(at);
    default: return float(*reinterpret_cast<const double*>(at));
  }
}

// Numbers p to p + 3, zeros past the end. FAST as in Rows: then p is a multiple of 4, and so is d.
template <int FAST>
__device__ inline void four(const Row& row, int p, int d, float (&out)[4]) {
  if (FAST == 4) {
    const float4 x = *reinterpret_cast<const float4*>(row.at + int64_t(p) * 4);
    out[0] = x.x, out[1] = x.y, out[2] = x.z, out[3] = x.w;
  } else if (FAST == 2) {
    const uint2 x = *reinterpret_cast<const uint2*>(row.at + int64_t(p) * 2);
    out[0] = half_to_float(uint16_t(x.x)), out[1] = half_to_float(uint16_t(x.x >> 16));
    out[2] = half_to_float(uint16_t(x.y)), out[3] = half_to_float(uint16_t(x.y >> 16));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = p + i < d ? number(row, p + i) : 0.0f;
  }
}

}  // namespace gpu

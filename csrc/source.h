// Rows where they lie: several arrays of any float type and stride, memory maps among them, read as float32.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel.h"

enum class Type { float16, bfloat16, float32, float64 };

struct Part {
  const char* data;
  Type type;
  int64_t first, rows;           // its rows are [first, first + rows) of the whole
  int64_t row_step, column_step; // bytes
};

struct Source {
  int64_t n = 0, d = 0;
  std::vector<Part> parts;  // ascending first

  // Row i as float32 [d]: itself where it lies so, otherwise converted into scratch.
  const float* row(int64_t i, float* scratch, const Kernel& kernel) const {
    const Part& part = of(i);
    const char* at = part.data + (i - part.first) * part.row_step;
    if (part.type == Type::float32 && part.column_step == 4) return reinterpret_cast<const float*>(at);
    if (part.type == Type::float16 && part.column_step == 2)
      kernel.widen(reinterpret_cast<const uint16_t*>(at), d, scratch);
    else
      convert(part, at, scratch, kernel);
    return scratch;
  }

  // Where row i begins.
  const char* raw(int64_t i) const {
    const Part& part = of(i);
    return part.data + (i - part.first) * part.row_step;
  }

  void prefetch(int64_t i) const {
    const Part& part = of(i);
    const char* at = raw(i);
    const int64_t bytes = std::min<int64_t>(d * part.column_step, 4096);
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + b);
  }

 private:
  const Part& of(int64_t i) const {
    if (parts.size() == 1) return parts[0];
    return *(std::upper_bound(parts.begin(), parts.end(), i, [](int64_t row, const Part& p) { return row < p.first; }) - 1);
  }

  void convert(const Part& part, const char* at, float* out, const Kernel& kernel) const {
    for (int64_t p = 0; p < d; ++p, at += part.column_step) switch (part.type) {
        case Type::float16: {
          uint16_t half;
          std::memcpy(&half, at, 2);
          kernel.widen(&half, 1, out + p);
          break;
        }
        case Type::bfloat16: {
          uint16_t high;
          std::memcpy(&high, at, 2);
          out[p] = std::bit_cast<float>(uint32_t(high) << 16);
          break;
        }
        case Type::float32: std::memcpy(out + p, at, 4); break;
        case Type::float64: {
          double wide;
          std::memcpy(&wide, at, 8);
          out[p] = float(wide);
          break;
        }
      }
  }
};

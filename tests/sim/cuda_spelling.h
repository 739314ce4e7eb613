// CUDA's own spelling for a C++ compiler: qualifiers, built-in variables, vectors, functions.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)
#define __CUDA_ARCH_FEAT_SM90_ALL 1

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline uint3 threadIdx, blockIdx;  // of the fiber that runs; one kernel runs at a time (device_streams.cpp)
inline dim3 blockDim, gridDim;

#define CLIPSCAN_VECTORS(type, name)                                                               \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                          \
  struct alignas(16) name##4 { type x, y, z, w; };                                                  \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                  \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
CLIPSCAN_VECTORS(int, int)
CLIPSCAN_VECTORS(unsigned, uint)
CLIPSCAN_VECTORS(float, float)
#undef CLIPSCAN_VECTORS
struct alignas(16) ulonglong2 {
  unsigned long long x, y;
};
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
struct alignas(16) longlong2 {
  long long x, y;
};
inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
struct alignas(16) double2 {
  double x, y;
};
inline double2 make_double2(double x, double y) { return {x, y}; }
struct alignas(4) char4 {
  signed char x, y, z, w;
};
inline char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return {x, y, z, w}; }

#define CLIPSCAN_MIN_MAX(type)                                    \
  inline type min(type a, type b) { return b < a ? b : a; }       \
  inline type max(type a, type b) { return a < b ? b : a; }
CLIPSCAN_MIN_MAX(int)
CLIPSCAN_MIN_MAX(unsigned)
CLIPSCAN_MIN_MAX(long)
CLIPSCAN_MIN_MAX(unsigned long)
CLIPSCAN_MIN_MAX(long long)
CLIPSCAN_MIN_MAX(unsigned long long)
#undef CLIPSCAN_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }  // the number, of a number and NaN
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

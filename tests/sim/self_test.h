// What the simulator's own tests share: memory on a device, plain loops, and the lists of tests.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gpu.cuh"

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), exit(1); \
  } while (0)

namespace gpu::self_test {

using Cases = std::map<std::string, void (*)()>;

// Tests by name, of the file self_test_NAME.cpp; they succeed.
Cases threads_tests(), ampere_tests(), hopper_tests(), wgmma_tests(), host_tests();
// Mistakes by name: they abort, or end by noticed().
Cases kernel_mistakes(), ampere_mistakes(), wgmma_mistakes(), host_mistakes();

inline std::mt19937_64 dice(12345);

template <class T>
std::vector<T> random_values(size_t count) {
  std::vector<T> out(count);
  for (T& value : out) value = T(dice());
  return out;
}

inline void wait(Stream stream) {
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
inline std::vector<int32_t> product(const std::vector<int8_t>& a, const std::vector<int8_t>& b, int n, int m, int k) {
  std::vector<int32_t> out(size_t(n) * m);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < m; ++j)
      for (int c = 0; c < k; ++c) out[size_t(i) * m + j] += int32_t(a[size_t(i) * k + c]) * b[size_t(j) * k + c];
  return out;
}

[[noreturn]] inline void noticed() {
  printf("noticed\n");
  exit(0);
}

inline bool has_poison(const std::vector<int32_t>& values) {
  for (int32_t value : values)
    if (uint32_t(value) == sim::POISON) return true;
  return false;
}

// A layout in CUTLASS's way of writing: (thread, value) to a position in a column-major matrix.
struct Mode {
  int size, stride;
};
inline int position(std::initializer_list<Mode> modes, int index) {
  int out = 0;
  for (const Mode& mode : modes) out += index % mode.size * mode.stride, index /= mode.size;
  return out;
}

}  // namespace gpu::self_test

#include "kernel.h"

#include "amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace {

#if defined(__x86_64__)
// Two that not every compiler's __builtin_cpu_supports knows.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 29);
}

bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
#elif defined(__aarch64__)
bool has_dot_product() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return true;  // every 64-bit Apple processor that macOS 11 runs on
#endif
}
#endif

}  // namespace

#if defined(__x86_64__)
bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

std::vector<const Kernel*> usable_kernels() {
  std::vector<const Kernel*> kernels;
#if defined(__x86_64__)
#if defined(CLIPSCAN_AMX)
  if (why_not_amx().empty()) kernels.push_back(&kernel_amx);
#endif
  const bool avx2 = has_avx2();
  if (has_avx512_vnni()) kernels.push_back(&kernel_avx512);
  if (avx2 && has_avx_vnni()) kernels.push_back(&kernel_avxvnni);
  if (avx2) kernels.push_back(&kernel_avx2);
#elif defined(__aarch64__)
  if (has_dot_product()) kernels.push_back(&kernel_neon);
#endif
  kernels.push_back(&kernel_base);
  return kernels;
}

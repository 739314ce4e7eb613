#include "amx.h"

#include <cerrno>
#include <cstring>

#include "kernel.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

AmxFacts facts_here() {
  AmxFacts facts{};
#if defined(CLIPSCAN_AMX)
  facts.compiled = true;
#endif
#if defined(__x86_64__)
  facts.avx512 = has_avx512_vnni();
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) facts.tile = d & 1u << 24, facts.int8 = d & 1u << 25;
#endif
  return facts;
}

// Tile registers are 8 kB that Linux saves for a process only once it has asked (since 5.16).
int ask_for_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) ? errno : 0;
#else
  return ENOSYS;
#endif
}

}  // namespace

std::string why_not_amx(const AmxFacts& facts, const std::function<int()>& permit) {
  if (!facts.tile || !facts.int8) return "this processor has no AMX for int8";
  if (!facts.compiled) return "clipscan was built by a compiler without -mamx-int8";
  if (!facts.avx512) return "it needs AVX-512 VNNI beside it";
  if (const int error = permit())
    return std::string("the operating system keeps no tile registers for this process: ") + std::strerror(error);
  return "";
}

const std::string& why_not_amx() {
  static const std::string reason = why_not_amx(facts_here(), ask_for_tiles);
  return reason;
}

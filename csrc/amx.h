// Whether this process may use AMX, and why not.
#pragma once
#include <functional>
#include <string>

struct AmxFacts {
  bool compiled;    // kernel_amx.cpp is part of this build
  bool avx512;      // kernel_avx512 can run, which does all but products
  bool tile, int8;  // CPUID's AMX-TILE and AMX-INT8
};

// The first thing that is missing, in words; empty where AMX may be used. `permit` asks the operating system to keep
// tile registers for this process, and is called only where nothing else is missing: 0, or an errno.
std::string why_not_amx(const AmxFacts& facts, const std::function<int()>& permit);

// The same for this process. The system is asked once.
const std::string& why_not_amx();

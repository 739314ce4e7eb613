// Without AMX a tile instruction raises SIGILL. The handler decodes it (Intel SDM volume 2: VEX, ModRM, SIB), does what it
// says on the arrays of tiles_plain.h, which are each thread's own, and goes on behind it.
#include "trap.h"

#include <signal.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "../../csrc/tiles_plain.h"

namespace {

constexpr int REGISTERS[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

struct Instruction {
  const uint8_t* end;
  int prefix, opcode;       // prefix: 0 none, 1 66, 2 F3, 3 F2
  bool registers;           // no memory operand
  int reg, rm, third;       // fields of ModRM, and VEX.vvvv
  char* base;               // of the memory operand, displacement included
  int64_t index;            // scaled: the stride of a tile's rows
};

int64_t displacement(const uint8_t*& at, int bytes) {
  int8_t one;
  int32_t four;
  if (bytes == 1) std::memcpy(&one, at, 1); else std::memcpy(&four, at, 4);
  at += bytes;
  return bytes == 1 ? one : four;
}

Instruction decode(const uint8_t* at, const greg_t* values) {
  if (at[0] != 0xc4 || (at[1] & 0x1f) != 2) throw std::logic_error("not a VEX instruction of map 0F38");
  const int x = ~at[1] >> 6 & 1, b = ~at[1] >> 5 & 1;
  Instruction it{nullptr, at[2] & 3, at[3], at[4] >> 6 == 3, at[4] >> 3 & 7, at[4] & 7, ~at[2] >> 3 & 15, nullptr, 0};
  const int mode = at[4] >> 6;
  at += 5;
  if (!it.registers) {
    int64_t base = 0;
    int bytes = mode == 1 ? 1 : mode == 2 ? 4 : 0;
    bool from_here = false;
    if (it.rm == 4) {  // a SIB byte
      const int scale = *at >> 6, index = (*at >> 3 & 7) | x << 3, low = *at & 7;
      ++at;
      if (index != 4) it.index = values[REGISTERS[index]] * (int64_t(1) << scale);
      if (low == 5 && mode == 0) bytes = 4; else base = values[REGISTERS[low | b << 3]];
    } else if (it.rm == 5 && mode == 0) {
      bytes = 4, from_here = true;
    } else {
      base = values[REGISTERS[it.rm | b << 3]];
    }
    if (bytes) base += displacement(at, bytes);
    if (from_here) base += reinterpret_cast<int64_t>(at);
    it.base = reinterpret_cast<char*>(base);
  }
  it.end = at;
  return it;
}

void execute(const Instruction& it) {
  const int what = it.opcode << 2 | it.prefix;
  if (what == (0x49 << 2) && it.registers) tiles.release();
  else if (what == (0x49 << 2)) tiles.configure(reinterpret_cast<const TileShapes*>(it.base));
  else if (what == (0x49 << 2 | 3)) tiles.zero(it.reg);
  else if (what == (0x4b << 2 | 3)) tiles.load(it.reg, it.base, it.index);
  else if (what == (0x4b << 2 | 2)) tiles.store(it.reg, it.base, it.index);
  else if (what == (0x5e << 2 | 3) && it.registers) tiles.dot(it.reg, it.rm, it.third);
  else throw std::logic_error("an instruction that the trap does not have");
}

void on_illegal_instruction(int, siginfo_t*, void* context) {
  greg_t* const values = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  try {
    const Instruction it = decode(reinterpret_cast<const uint8_t*>(values[REG_RIP]), values);
    execute(it);
    values[REG_RIP] = reinterpret_cast<greg_t>(it.end);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "SIGILL: %s\n", error.what());
    std::_Exit(3);
  }
}

}  // namespace

void trap_tile_instructions() {
  struct sigaction action {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

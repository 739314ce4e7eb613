// Fibers: a stack each, and how the OS thread goes from one to another.
#include <sys/mman.h>

#include "machine.h"

#ifdef CLIPSCAN_SIM_OWN_SWITCH
// Puts what a call must preserve on the stack, leaves its address in *from, and goes on where `to` was left.
extern "C" void clipscan_sim_switch(void** from, void* to);
extern "C" void clipscan_sim_enter();

#if defined(__x86_64__)
asm(R"(
.text
.globl clipscan_sim_switch
.hidden clipscan_sim_switch
.type clipscan_sim_switch, @function
clipscan_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size clipscan_sim_switch, .-clipscan_sim_switch
)");
#else
asm(R"(
.text
.globl clipscan_sim_switch
.hidden clipscan_sim_switch
.type clipscan_sim_switch, %function
clipscan_sim_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size clipscan_sim_switch, .-clipscan_sim_switch
)");
#endif
#endif

namespace gpu::sim {

namespace {

#ifdef CLIPSCAN_SIM_ASAN
constexpr size_t STACK_BYTES = 512 << 10;  // its red zones make frames several times as large
#else
constexpr size_t STACK_BYTES = 96 << 10;
#endif
constexpr size_t GUARD = 256 << 10;  // below a stack, and not to be touched
constexpr uint64_t CANARY = 0x5ca1ab1e0ddba11eull;

}  // namespace

void step(Fiber* to) {
  Fiber* from = self;
  self = to;
  if (to != &g.main) threadIdx.x = unsigned(to->thread), blockIdx.x = unsigned(to->block->index);
#ifdef CLIPSCAN_SIM_ASAN
  __sanitizer_start_switch_fiber(from->exited ? nullptr : &from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef CLIPSCAN_SIM_OWN_SWITCH
  clipscan_sim_switch(&from->sp, to->sp);
#else
  swapcontext(&from->context, &to->context);
#endif
#ifdef CLIPSCAN_SIM_ASAN
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

}  // namespace gpu::sim

extern "C" __attribute__((noreturn)) void clipscan_sim_enter() {
  using namespace gpu::sim;
#ifdef CLIPSCAN_SIM_ASAN
  const void* stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (!g.main.stack) g.main.stack = static_cast<unsigned char*>(const_cast<void*>(stack)), g.main.stack_bytes = bytes;
#endif
  (*g.kernel)();
  exit_fiber();
  __builtin_unreachable();
}

namespace gpu::sim {

// Below a stack lies memory that cannot be touched; its lowest words are checked when the fiber ends.
Fiber* new_fiber() {
  auto* fiber = new Fiber;
  void* memory = mmap(nullptr, STACK_BYTES + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE) != 0) fail("no memory for the stack of a fiber");
  fiber->stack = static_cast<unsigned char*>(memory) + GUARD;
  fiber->stack_bytes = STACK_BYTES;
  return fiber;
}

void start_fiber(Fiber* fiber, int number, Block& block, int thread) {
  fiber->block = &block, fiber->thread = thread, fiber->lane = thread % 32, fiber->warp = &block.warps[thread / 32];
  fiber->exited = fiber->ready = false, fiber->asleep = true;
  fiber->call = Call::NONE, fiber->where = Where(), fiber->next = nullptr, fiber->fake_stack = nullptr;
  fiber->copies.clear(), fiber->group = 0;
  fiber->warp->lanes[fiber->lane] = fiber;
  show(fiber->stack, fiber->stack_bytes);
  for (int i = 0; i < 8; ++i) std::memcpy(fiber->stack + 8 * i, &CANARY, 8);
  // Tops at different distances from a page's end: equal ones would compete for the same few lines of the cache.
  const size_t top_bytes = fiber->stack_bytes - size_t(number % 61) * 192;
#ifdef CLIPSCAN_SIM_OWN_SWITCH
  auto* top = reinterpret_cast<uint64_t*>(fiber->stack + top_bytes / 16 * 16);
#if defined(__x86_64__)
  *--top = 0, *--top = 0;  // as after a call: 8 bytes off a multiple of 16
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(clipscan_sim_enter);
  for (int i = 0; i < 6; ++i) *--top = 0;
#else
  top -= 20;
  for (int i = 0; i < 20; ++i) top[i] = 0;
  top[11] = reinterpret_cast<uint64_t>(clipscan_sim_enter);  // x30
#endif
  fiber->sp = top;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = top_bytes;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, clipscan_sim_enter, 0);
#endif
}

void check_canaries(const Fiber* fiber) {
  for (int i = 0; i < 8; ++i)
    if (std::memcmp(fiber->stack + 8 * i, &CANARY, 8) != 0)
      fail("the stack of %zu bytes was not enough", fiber->stack_bytes);
}

}  // namespace gpu::sim

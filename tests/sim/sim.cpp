// A block's threads are fibers on the caller's OS thread; they switch only inside the wrappers of sim.h.
// Blocks of a grid run one after another, the blocks of a cluster together. With CLIPSCAN_SIM_SEED the order of blocks
// and of threads is drawn, up to three blocks run side by side, and some warps are starved for a while.
// - A fiber runs until it must wait. Whatever a warp does together is done by the last lane to come.
// - What the hardware does later is done here as late as a program may count on: a copy lands when its own thread
//   waits for it, a bulk copy when nothing else can run and somebody waits on its barrier, a matrix product at
//   multiply_wait, its sums at multiply_finish. Until then the destination is poison; who writes to it, or changes an
//   operand, aborts.
// - The first block starts with its last thread, the next with its first, and so on: threads that must be first are
//   often thread 0.
//
// Not like the hardware: a fiber is never interrupted between two wrappers, so two plain accesses race only across a
// wrapper; blocks side by side are few; no instruction reorders; fences between proxies (fence.proxy.async) and
// volatile spinning are not modelled; threads come in whole warps; registers are not counted, but by set_registers.
#include "sim.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "control.h"

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__)) && !defined(CLIPSCAN_SIM_UCONTEXT)
#define CLIPSCAN_SIM_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

// ---- switching between stacks

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

#if defined(__clang__)
#define CLIPSCAN_HOT __attribute__((no_sanitize("address", "undefined")))
#else
#define CLIPSCAN_HOT __attribute__((optimize("O3"), no_sanitize("address"), no_sanitize("undefined")))
#endif

namespace gpu::sim {

namespace {

#ifdef CLIPSCAN_SIM_ASAN
constexpr size_t STACK_BYTES = 512 << 10;  // its red zones make frames several times as large
#else
constexpr size_t STACK_BYTES = 96 << 10;
#endif
constexpr size_t GUARD = 256 << 10;  // below a stack, and not to be touched
constexpr size_t ZONE = 1024;        // unused bytes on either side of a block's shared memory
constexpr int MOST_REGISTERS = 256;    // of a thread, as setmaxnreg counts
constexpr uint32_t SHARED_START = 1024;     // where the hardware's own bytes end and a block's begin
constexpr uint64_t CANARY = 0x5ca1ab1e0ddba11eull, BARRIER_MARK = 0x6261727269ull;  // the latter above 24 bits of index

const char* name_of(Call call) {
  constexpr const char* NAMES[] = {
      "its start", "its end", "sync_block", "sync_warp", "ballot", "shuffle", "shuffle_xor", "named_wait", "named_arrive",
      "copy16_async",
      "copy_commit", "copy_wait", "load_matrices", "multiply_s8", "barrier_init", "barrier_init_fence", "barrier_arrive",
      "barrier_expect", "barrier_wait", "bulk_copy", "cluster_rank", "cluster_sync", "bulk_copy_to_all", "barrier_arrive_at",
      "matrix_descriptor", "multiply_fence", "multiply_commit", "multiply_wait", "multiply_finish", "grow/shrink_registers",
      "multiply_64x256", "an atomic", "shared_address"};
  return NAMES[int(call)];
}

struct Block;
struct Warp;

struct Copy {  // cp.async
  unsigned char* to;
  const unsigned char* from;
  uint32_t group;
};

struct Fiber {
  void* sp = nullptr;
#ifndef CLIPSCAN_SIM_OWN_SWITCH
  ucontext_t context;
#endif
  unsigned char* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  Block* block = nullptr;
  Warp* warp = nullptr;
  int thread = 0, lane = 0;
  bool exited = false, asleep = true, ready = false;  // asleep: until woken, then ready
  Call call = Call::NONE;  // what it waits at, or did last
  Where where;
  const void* at = nullptr;  // the barrier it waits on
  uint32_t parity = 0;
  Fiber* next = nullptr;  // waiting on the same barrier
  std::vector<Copy> copies;
  uint32_t group = 0;  // that its next copy belongs to
};

struct Barrier {
  Block* block;
  uint64_t* at;
  uint32_t expected, pending, phase = 0;
  int64_t bytes = 0;  // expected and not yet landed; below 0 while copies land before they are announced
  Fiber* initialiser;
  bool fenced = false;
  Fiber* waiting = nullptr;
};

struct Flight {  // cp.async.bulk
  unsigned char* to;
  const unsigned char* from;
  uint32_t bytes;
  Barrier* barrier;
};

struct Accumulators {  // of one warp: what the registers will hold, while they hold poison
  int32_t* at[32] = {};
  int32_t value[32][128];
  int pending = 0;
};

struct Product {  // one wgmma of a warpgroup
  uint64_t a, b;
  int64_t sequence;
  int issued = 0;  // by how many of the four warps
  bool done = false;
  Accumulators* into[4];
  Where where;
  int8_t rows_a[64][32], rows_b[256][32];  // as they were when it was issued
};

struct Issued {
  std::shared_ptr<Product> product;
  uint32_t group;
};

struct Warp {
  Block* block = nullptr;
  int index = 0, arrived = 0, exited = 0;
  int registers = 0, wanted = 0;  // of each thread: what it has, and would have
  bool starved = false;
  Call call = Call::NONE;
  Where where;
  void* mine[32];
  Fiber* lanes[32];
  std::vector<Issued> products;  // not waited for, oldest first
  std::vector<std::unique_ptr<Accumulators>> accumulators;
  uint32_t group = 0;   // that its next product belongs to
  bool fenced = false;  // multiply_fence since the registers were last the program's own
  Fiber* late = nullptr;  // the lane that waits, for all, until the other warps have issued as well
};

struct Warpgroup {
  std::vector<std::shared_ptr<Product>> open;  // not yet issued by all four warps
  int64_t count[4] = {};
};

struct Named {
  int threads = 0, arrived = 0;
  uint32_t warps = 0, waiting = 0;
};

struct Cluster {
  int alive = 0, arrived = 0;
  std::vector<Warp*> waiting;
  std::vector<Block*> blocks;
};

struct Block {
  int64_t index = 0;
  int rank = 0, alive = 0;
  Cluster* cluster = nullptr;
  unsigned char* buffer = nullptr;
  unsigned char* shared = nullptr;
  std::vector<Warp> warps;
  std::vector<Warp*> waiting;  // at sync_block
  std::vector<Warpgroup> groups;
  int registers = 0;              // given up by warps, and not taken by others
  std::vector<Fiber*> in_want;    // of them: woken by whoever gives some up
  std::deque<Barrier> barriers;
  Named named[16];
};

struct Ring {  // a queue of fibers that can go on
  std::vector<Fiber*> slots;
  size_t head = 0, count = 0;
  void clear(size_t room) { slots.resize(room), head = count = 0; }
  void push(Fiber* fiber) { slots[(head + count++) % slots.size()] = fiber; }
  Fiber* pop(size_t skip) {  // the front one, after changing places with the one `skip` behind it
    std::swap(slots[head], slots[(head + skip) % slots.size()]);
    Fiber* out = slots[head];
    head = (head + 1) % slots.size(), --count;
    return out;
  }
};

struct Engine {
  Grid grid{};
  const std::function<void()>* kernel = nullptr;
  std::vector<Fiber*>& pool = *new std::vector<Fiber*>;  // never given back
  std::deque<Block> blocks;       // that run side by side
  std::vector<Cluster> clusters;  // of them
  std::vector<Flight> flights;
  Ring able, starved;  // of warps that go first, and of those that go when no other can
  uint64_t patience = 0;  // fibers to go on before others are starved
  int alive = 0;
  bool shuffled = false, busy = false;
  uint64_t dice = 1, runs = 0, atomics = 0;
  Fiber main;
};

Engine g;
Fiber* self = &g.main;

uint64_t random_below(uint64_t n) {
  g.dice ^= g.dice << 13, g.dice ^= g.dice >> 7, g.dice ^= g.dice << 17;
  return (g.dice >> 11) % n;
}

// ---- words

std::string place(const Where& where) {
  const std::string file = where.file_name();
  if (file.empty()) return "";
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string who(const Fiber* fiber) {
  return "block " + std::to_string(fiber->block->index) + ", thread " + std::to_string(fiber->thread) + " (warp " +
         std::to_string(fiber->thread / 32) + ", lane " + std::to_string(fiber->lane) + ")";
}

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  char words[2048];
  va_list list;
  va_start(list, format);
  vsnprintf(words, sizeof words, format, list);
  va_end(list);
  fflush(stdout);
  fprintf(stderr, "clipscan sim: kernel %s", g.busy ? g.grid.name : "(none)");
  if (self != &g.main) fprintf(stderr, ", %s, at %s %s", who(self).c_str(), name_of(self->call), place(self->where).c_str());
  fprintf(stderr, ": %s\n", words);
  fflush(stderr);
  abort();
}

// ---- fibers

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

void wake(Fiber* fiber) {
  if (!fiber->asleep || fiber->ready) return;
  fiber->ready = true;
  (fiber->warp->starved ? g.starved : g.able).push(fiber);
}

void land(size_t flight);
bool land_something_awaited();
[[noreturn]] void deadlock();

// Even chances keep warps abreast, and what happens when one falls far behind never shows. So some are starved for a
// while: each warp by a coin, all of a warpgroup, all but one, or none.
void starve_others() {
  g.patience = 1 + random_below(random_below(2) ? 300 : 30000);
  const uint64_t way = random_below(4), one = random_below(64);
  for (Block& block : g.blocks) {
    const size_t warps = block.warps.size(), groups = block.groups.size();
    for (Warp& warp : block.warps) {
      const bool chosen = size_t(warp.index / 4) == one % groups;
      warp.starved = way == 0 ? random_below(2) : way == 1 ? chosen : way == 2 && size_t(warp.index) != one % warps;
    }
  }
}

Fiber* next_fiber() {
  if (g.shuffled && g.patience-- == 0) starve_others();
  if (g.shuffled && !g.flights.empty() && random_below(16) == 0) land(random_below(g.flights.size()));
  if (g.able.count == 0 && g.starved.count && random_below(2)) land_something_awaited();
  while (g.able.count + g.starved.count == 0)
    if (!land_something_awaited()) deadlock();
  Ring& ring = g.able.count ? g.able : g.starved;
  Fiber* next = ring.pop(g.shuffled ? random_below(ring.count) : 0);
  next->asleep = next->ready = false;
  return next;
}

void suspend() {  // until somebody wakes this fiber
  self->asleep = true;
  Fiber* next = next_fiber();
  if (next != self) step(next);
}

void let_others() {
  if (g.able.count + g.starved.count == 0) return;
  self->asleep = true;
  wake(self);
  suspend();
}

void exit_fiber();

}  // namespace

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

namespace {

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

// ---- a warp together

bool same(const Where& a, const Where& b) { return a.line() == b.line() && a.column() == b.column(); }

// True for the last of 32 lanes, with the others asleep until release(); false for them, once released.
bool gather(Call call, void* mine, const Where& where) {
  if (self == &g.main) fail("%s outside a kernel", name_of(call));
  Fiber* me = self;
  Warp& warp = *me->warp;
  me->call = call, me->where = where;
  if (warp.exited) fail("all 32 lanes are needed, and %d have exited", warp.exited);
  if (warp.arrived == 0) {
    warp.call = call, warp.where = where;
  } else if (warp.call != call || !same(warp.where, where)) {
    fail("other lanes of the warp wait at %s %s", name_of(warp.call), place(warp.where).c_str());
  }
  warp.mine[me->lane] = mine;
  if (++warp.arrived == 32) return true;
  suspend();
  return false;
}

void release(Warp& warp) {
  warp.arrived = 0;
  for (Fiber* lane : warp.lanes) wake(lane);
}

void complete_cluster_sync(Cluster& cluster) {
  cluster.arrived = 0;
  const auto waiting = std::move(cluster.waiting);
  cluster.waiting.clear();
  for (Warp* warp : waiting) release(*warp);
}

// ---- shared memory

void need_hopper(Call call, const Where& where) {
  if (self == &g.main) fail("%s outside a kernel", name_of(call));
  self->call = call, self->where = where;
  if (g.grid.major < 9) fail("needs compute capability 9.0, and the simulated device has %d.0", g.grid.major);
}

void check_shared(const void* memory, size_t bytes, size_t alignment) {
  const auto* at = static_cast<const unsigned char*>(memory);
  const Block& block = *self->block;
  const ptrdiff_t offset = at - block.shared;
  if (offset < 0 || size_t(offset) + bytes > g.grid.shared)
    fail("%zu bytes at offset %td lie outside the block's %zu bytes of shared memory", bytes, offset, g.grid.shared);
  if (size_t(offset) % alignment) fail("offset %td in shared memory is not a multiple of %zu", offset, alignment);
}

void check_source(const void* memory) {
  if (reinterpret_cast<uintptr_t>(memory) % 16) fail("the source %p is not a multiple of 16", memory);
}

void check_untouched(const unsigned char* to, size_t bytes, const Block& block) {
  const size_t end = end_of_poison(to, bytes);
  if (end < bytes)
    fail("byte %zu of the %zu at offset %td of shared memory was written while a copy to there was under way", end, bytes,
         to - block.shared);
}

// ---- barriers in shared memory

Barrier& barrier_at(uint64_t* at, Block& block) {
  uint64_t mark;
  std::memcpy(&mark, at, 8);
  const size_t index = mark & 0xffffff;
  if (mark >> 24 != BARRIER_MARK || index >= block.barriers.size() || block.barriers[index].at != at)
    fail("no initialised barrier at offset %td of block %lld's shared memory (never there, not yet, or overwritten)",
         reinterpret_cast<unsigned char*>(at) - block.shared, static_cast<long long>(block.index));
  return block.barriers[index];
}

Barrier& usable_barrier(uint64_t* at, Block& block, bool by_engine) {
  Barrier& barrier = barrier_at(at, block);
  if (!barrier.fenced && (by_engine || barrier.initialiser != self))
    fail("the barrier is used before barrier_init_fence of the thread that initialised it");
  return barrier;
}

void settle(Barrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  barrier.phase ^= 1;
  barrier.pending = barrier.expected;
  Fiber* fiber = barrier.waiting;
  barrier.waiting = nullptr;
  while (fiber) {
    Fiber* next = fiber->next;
    fiber->next = nullptr;
    wake(fiber);
    fiber = next;
  }
}

void land(size_t which) {
  const Flight flight = g.flights[which];
  g.flights.erase(g.flights.begin() + ptrdiff_t(which));
  show(flight.to, flight.bytes);
  check_untouched(flight.to, flight.bytes, *flight.barrier->block);
  std::memcpy(flight.to, flight.from, flight.bytes);
  flight.barrier->bytes -= flight.bytes;
  settle(*flight.barrier);
}

// The newest copy first: a program may count on no order but the barriers'.
bool land_something_awaited() {
  for (size_t i = g.flights.size(); i-- > 0;)
    if (g.flights[i].barrier->waiting) return land(i), true;
  return false;
}

unsigned char* at_same_offset(const void* own, const Block& other) {
  return other.shared + (static_cast<const unsigned char*>(own) - self->block->shared);
}

Block& peer(int rank) {
  Cluster& cluster = *self->block->cluster;
  if (rank < 0 || rank >= int(cluster.blocks.size())) fail("no block %d in a cluster of %zu", rank, cluster.blocks.size());
  Block& block = *cluster.blocks[size_t(rank)];
  if (block.alive == 0) fail("block %d of the cluster has exited; its shared memory is gone", rank);
  return block;
}

// ---- matrices

CLIPSCAN_HOT void dot_rows(const int8_t* a, int rows_a, const int8_t* b, int rows_b, int32_t* out) {
  int16_t wide_a[64 * 32], wide_b[256 * 32];
  for (int i = 0; i < rows_a * 32; ++i) wide_a[i] = a[i];
  for (int i = 0; i < rows_b * 32; ++i) wide_b[i] = b[i];
  for (int i = 0; i < rows_a; ++i)
    for (int j = 0; j < rows_b; ++j) {
      int32_t sum = 0;
      for (int k = 0; k < 32; ++k) sum += int32_t(wide_a[i * 32 + k]) * wide_b[j * 32 + k];
      out[i * rows_b + j] = sum;
    }
}

int32_t wrapping_sum(int32_t a, int32_t b) { return int32_t(uint32_t(a) + uint32_t(b)); }

struct Load {
  const void* row;
  uint32_t* out;
};

void load_work(void* const* lanes) {
  for (int matrix = 0; matrix < 4; ++matrix)
    for (int lane = 0; lane < 32; ++lane) {
      const void* row = static_cast<Load*>(lanes[8 * matrix + lane / 4])->row;
      std::memcpy(&static_cast<Load*>(lanes[lane])->out[matrix], static_cast<const unsigned char*>(row) + 4 * (lane % 4), 4);
    }
}

struct Multiply {
  int32_t* sum;
  const uint32_t* a;
  uint32_t b[2];
};

// PTX ISA, "Matrix Fragments for mma.m16n8k32"; CUTLASS's MMA_Traits<SM80_16x8x32_S32S8S8S32_TN> says the same.
void multiply_work(void* const* lanes) {
  int8_t a[16][32], b[8][32];
  int32_t sum[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<Multiply*>(lanes[lane]);
    const int row = lane / 4, k = 4 * (lane % 4);
    for (int i = 0; i < 4; ++i) std::memcpy(&a[row + 8 * (i % 2)][k + 16 * (i / 2)], &mine.a[i], 4);
    for (int i = 0; i < 2; ++i) std::memcpy(&b[row][k + 16 * i], &mine.b[i], 4);
  }
  dot_rows(&a[0][0], 16, &b[0][0], 8, &sum[0][0]);
  for (int lane = 0; lane < 32; ++lane) {
    int32_t* out = static_cast<Multiply*>(lanes[lane])->sum;
    for (int i = 0; i < 4; ++i)
      out[i] = wrapping_sum(out[i], sum[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
  }
}

// ---- wgmma

// 32 bytes of each of `rows` rows, by a descriptor as in PTX ISA, "Matrix Descriptor Format": K-major, 64-byte swizzle,
// which is Swizzle<2, 4, 3> of byte addresses in CUTLASS's words.
void read_operand(const Block& block, uint64_t descriptor, int first, int rows, int8_t (*out)[32]) {
  const uint32_t start = uint32_t(descriptor & 0x3fff) << 4, stride = uint32_t(descriptor >> 32 & 0x3fff) << 4;
  constexpr uint64_t UNUSED = 3ull << 14 | 3ull << 30 | 7ull << 46 | 0x3ffull << 52;
  const char* wrong = descriptor >> 62 != 2           ? "the swizzle mode is not 64 bytes"
                      : descriptor & UNUSED           ? "bits that must be 0 are not"
                      : (descriptor >> 49 & 7)        ? "the base offset is not 0"
                      : start % 512 != 0 && start % 512 != 32 ? "the start is neither a multiple of 512 nor 32 past one"
                      : stride % 512                  ? "the stride of 8 rows is not a multiple of 512"
                      : start < SHARED_START          ? "the start lies below the block's shared memory"
                                                      : nullptr;
  if (wrong) fail("descriptor %016llx: %s", static_cast<unsigned long long>(descriptor), wrong);
  for (int row = first; row < first + rows; ++row)
    for (uint32_t piece = 0; piece < 32; piece += 16) {
      uint32_t address = start + uint32_t(row / 8) * stride + uint32_t(row % 8) * 64 + piece;
      address ^= (address >> 7 & 3) << 4;
      const size_t offset = address - SHARED_START;
      if (offset + 16 > g.grid.shared)
        fail("descriptor %016llx: row %d lies past the block's %zu bytes of shared memory",
             static_cast<unsigned long long>(descriptor), row, g.grid.shared);
      std::memcpy(&out[row - first][piece], block.shared + offset, 16);
    }
}

Warpgroup& warpgroup_of(const Warp& warp) {
  if (size_t(warp.index / 4 * 4 + 4) > warp.block->warps.size())
    fail("warp %d is not in a whole warpgroup of 128 threads", warp.index);
  return warp.block->groups[size_t(warp.index / 4)];
}

bool holds_poison(const int32_t* at) { return end_of_poison(at, 128 * sizeof(int32_t)) == 128 * sizeof(int32_t); }

Accumulators& held(Warp& warp) {
  for (auto& set : warp.accumulators)
    if (set->at[0] == warp.mine[0]) return *set;
  if (!warp.fenced)
    fail("no multiply_fence since these accumulators were last the program's");
  warp.accumulators.push_back(std::make_unique<Accumulators>());
  return *warp.accumulators.back();
}

void keep(Accumulators& set, Warp& warp) {
  for (int lane = 0; lane < 32; ++lane) {
    set.at[lane] = static_cast<int32_t*>(warp.mine[lane]);
    std::memcpy(set.value[lane], set.at[lane], sizeof set.value[lane]);
    poison(set.at[lane], sizeof set.value[lane]);
  }
}

void check_accumulators(const Accumulators& set) {
  for (int lane = 0; lane < 32; ++lane)
    if (!holds_poison(set.at[lane])) fail("accumulators of lane %d were written while products into them were under way", lane);
}

Product& product_of(Warpgroup& group, Warp& warp, uint64_t a, uint64_t b, const Where& where) {
  const int64_t sequence = group.count[warp.index % 4]++;
  std::shared_ptr<Product> product;
  for (const auto& open : group.open)
    if (open->sequence == sequence) product = open;
  if (!product) {
    product = group.open.emplace_back(std::make_shared<Product>());
    product->a = a, product->b = b, product->sequence = sequence, product->where = where;
    read_operand(*warp.block, b, 0, 256, product->rows_b);
  }
  if (product->a != a || product->b != b) fail("the four warps of the warpgroup give different descriptors");
  warp.products.push_back({product, warp.group});
  return *product;
}

void issue(Warp& warp, uint64_t a, uint64_t b, const Where& where) {
  Warpgroup& group = warpgroup_of(warp);
  Accumulators& set = held(warp);
  if (set.at[0]) check_accumulators(set);
  else keep(set, warp);
  ++set.pending;
  Product& product = product_of(group, warp, a, b, where);
  const int quarter = warp.index % 4;
  product.into[quarter] = &set;
  read_operand(*warp.block, a, 16 * quarter, 16, product.rows_a + 16 * quarter);
  if (++product.issued < 4) return;
  std::erase_if(group.open, [&](const auto& open) { return open.get() == &product; });
  for (int i = 0; i < 4; ++i)
    if (Fiber* late = warp.block->warps[size_t(warp.index - quarter + i)].late) wake(late);
}

// For the whole warpgroup, as soon as one of its warps has waited: CUTLASS lets one thread of four warps free the
// operands' memory after its own wait (PipelineTmaAsync's signalling thread).
// PTX ISA, "Register Fragments: accumulator D of wgmma m64nNk32"; CUTLASS's CLayout_64xN says the same.
void execute(Block& block, Product& product) {
  static int8_t rows_a[64][32], rows_b[256][32];
  static int32_t sum[64][256];
  product.done = true;
  read_operand(block, product.a, 0, 64, rows_a);
  read_operand(block, product.b, 0, 256, rows_b);
  if (std::memcmp(rows_a, product.rows_a, sizeof rows_a) || std::memcmp(rows_b, product.rows_b, sizeof rows_b))
    fail("the operands of the product at %s changed while it was under way", place(product.where).c_str());
  dot_rows(&rows_a[0][0], 64, &rows_b[0][0], 256, &sum[0][0]);
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < 128; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2), column = 8 * (i / 4) + 2 * (thread % 4) + i % 2;
      int32_t& out = product.into[thread / 32]->value[thread % 32][i];
      out = wrapping_sum(out, sum[row][column]);
    }
}

// The registers get their values only from the multiply_finish that names them: nothing else keeps the compiler from
// reading them too soon.
void hand_over(Warp& warp) {
  for (size_t i = 0; i < warp.accumulators.size(); ++i) {
    Accumulators& set = *warp.accumulators[i];
    if (set.at[0] != warp.mine[0] || set.pending) continue;
    check_accumulators(set);
    for (int lane = 0; lane < 32; ++lane) std::memcpy(set.at[lane], set.value[lane], sizeof set.value[lane]);
    warp.accumulators.erase(warp.accumulators.begin() + ptrdiff_t(i));
    warp.fenced = false;
    return;
  }
}

// ---- the end of a thread, of a block, of everything

void describe(const Fiber* fiber, std::string& out) {
  out += std::string(name_of(fiber->call)) + " " + place(fiber->where);
  if (fiber->call == Call::BARRIER_WAIT) {
    const auto* barrier = static_cast<const Barrier*>(fiber->at);
    out += " (offset " + std::to_string(reinterpret_cast<unsigned char*>(barrier->at) - barrier->block->shared) + ", parity " +
           std::to_string(fiber->parity) + "; " + std::to_string(barrier->pending) + " of " + std::to_string(barrier->expected) +
           " arrivals and " + std::to_string(barrier->bytes) + " bytes are missing)";
  }
  if (fiber->call == Call::NAMED_WAIT) {
    const Named& named = fiber->block->named[fiber->parity];
    out += " (barrier " + std::to_string(fiber->parity) + ": " + std::to_string(named.arrived) + " of " +
           std::to_string(named.threads) + " threads)";
  }
  if (fiber->call == Call::REGISTERS && fiber->warp->wanted > fiber->warp->registers)
    out += " (has " + std::to_string(fiber->warp->registers) + " registers a thread and wants " +
           std::to_string(fiber->warp->wanted) + "; the block has given up " + std::to_string(fiber->block->registers) + ")";
}

void deadlock() {
  std::string list;
  for (const Block& block : g.blocks)
    for (const Warp& warp : block.warps)
      for (int lane = 0, end; lane < 32; lane = end) {
        const Fiber* first = warp.lanes[lane];
        for (end = lane + 1; end < 32; ++end) {
          const Fiber* other = warp.lanes[end];
          if (other->exited != first->exited || other->call != first->call || !same(other->where, first->where)) break;
        }
        list += "\n  block " + std::to_string(block.index) + ", warp " + std::to_string(warp.index) + ", lanes " +
                std::to_string(lane) + "-" + std::to_string(end - 1) + ": ";
        if (first->exited) list += "exited";
        else describe(first, list);
      }
  fflush(stdout);
  fprintf(stderr, "clipscan sim: kernel %s: deadlock, no thread can go on:%s\n", g.grid.name, list.c_str());
  fflush(stderr);
  abort();
}

void end_block(Block& block) {
  for (const Flight& flight : g.flights)
    if (flight.barrier->block == &block) fail("the block ends while %u bytes of a bulk copy are under way", flight.bytes);
  show(block.buffer, ZONE + g.grid.shared + ZONE);
  for (size_t i = 0; i < ZONE; ++i)
    if (block.buffer[i] != poison_byte(i)) fail("the byte %zu before the block's shared memory was written", ZONE - i);
  const unsigned char* after = block.shared + g.grid.shared;
  const size_t end = end_of_poison(after, ZONE);
  if (end < ZONE) fail("the byte %zu past the block's %zu bytes of shared memory was written", end, g.grid.shared);
}

void exit_fiber() {
  Fiber* me = self;
  Warp& warp = *me->warp;
  Block& block = *me->block;
  me->call = Call::END, me->where = Where();
  check_canaries(me);
  if (warp.arrived)
    fail("the thread exits while other lanes of its warp wait at %s %s", name_of(warp.call), place(warp.where).c_str());
  if (!block.waiting.empty())
    fail("the thread exits while others wait at sync_block %s", place(block.waiting[0]->where).c_str());
  if (!warp.products.empty())
    fail("the thread exits while the product of %s is under way", place(warp.products[0].product->where).c_str());
  me->exited = true;
  ++warp.exited;
  Cluster& cluster = *block.cluster;
  --cluster.alive;
  if (!cluster.waiting.empty() && cluster.arrived == cluster.alive) complete_cluster_sync(cluster);
  if (--block.alive == 0) end_block(block);
  step(--g.alive == 0 ? &g.main : next_fiber());
  __builtin_unreachable();
}

// ---- a grid

void prepare(Block& block, int64_t index, int rank, Cluster& cluster) {
  const int warps = g.grid.threads / 32;
  block.index = index, block.rank = rank, block.alive = g.grid.threads, block.cluster = &cluster;
  block.warps.clear();
  block.warps.resize(size_t(warps));
  for (int i = 0; i < warps; ++i) {
    Warp& warp = block.warps[size_t(i)];
    warp.block = &block, warp.index = i, warp.registers = std::min(MOST_REGISTERS, 65536 / g.grid.threads / 8 * 8);
  }
  block.registers = 0, block.in_want.clear();
  block.waiting.clear();
  block.groups.assign(size_t(warps + 3) / 4, {});
  block.barriers.clear();
  for (Named& named : block.named) named = {};
  poison(block.buffer, ZONE);
  poison(block.shared, g.grid.shared);
  poison(block.shared + g.grid.shared, ZONE);
  hide(block.buffer, ZONE);
  hide(block.shared + g.grid.shared, ZONE);
}

void run_side_by_side(const std::vector<int64_t>& clusters) {
  const int size = g.grid.cluster, threads = g.grid.threads;
  g.clusters.assign(clusters.size(), {});
  for (size_t c = 0; c < clusters.size(); ++c)
    for (int rank = 0; rank < size; ++rank) {
      Block& block = g.blocks[c * size_t(size) + size_t(rank)];
      prepare(block, clusters[c] * size + rank, rank, g.clusters[c]);
      g.clusters[c].alive += threads;
      g.clusters[c].blocks.push_back(&block);
    }
  const int count = int(clusters.size()) * size * threads;
  g.alive = count, g.patience = 0, g.flights.clear();
  g.able.clear(size_t(count)), g.starved.clear(size_t(count));
  while (int(g.pool.size()) < count) g.pool.push_back(new_fiber());
  for (int i = 0; i < count; ++i) start_fiber(g.pool[size_t(i)], i, g.blocks[size_t(i / threads)], i % threads);
  const bool backward = clusters[0] % 2 == 0;
  for (int i = 0; i < count; ++i) wake(g.pool[size_t(backward ? count - 1 - i : i)]);
  g.main.stack = nullptr;
  step(next_fiber());
  self = &g.main;
}

}  // namespace

void run(const Grid& grid, const std::function<void()>& kernel) {
  if (g.busy) fail("a kernel launched from within a kernel");
  const char* seed = std::getenv("CLIPSCAN_SIM_SEED");
  const uint64_t number = seed ? std::strtoull(seed, nullptr, 10) : 0;
  g.grid = grid, g.kernel = &kernel, g.busy = true, g.shuffled = number != 0;
  g.dice = (number * 0x9e3779b97f4a7c15ull) ^ (++g.runs * 0xd1342543de82ef95ull) ^ 0x2545f4914f6cdd1dull;
  if (g.dice == 0) g.dice = 1;
  for (int i = 0; i < 8; ++i) random_below(2);
  blockDim = {unsigned(grid.threads), 1, 1}, gridDim = {unsigned(grid.blocks), 1, 1};
  threadIdx = blockIdx = {};

  const int most = g.shuffled ? std::max(1, std::min(3, 2048 / (grid.threads * grid.cluster))) : 1;
  const size_t bytes = (ZONE + grid.shared + ZONE + 1023) / 1024 * 1024;
  g.blocks.clear();
  g.blocks.resize(size_t(most * grid.cluster));
  for (Block& block : g.blocks) {
    block.buffer = static_cast<unsigned char*>(std::aligned_alloc(1024, bytes));
    if (!block.buffer) fail("no memory for %zu bytes of shared memory", bytes);
    block.shared = block.buffer + ZONE;
  }

  const int64_t clusters = grid.blocks / grid.cluster;
  std::vector<int64_t> order, now;
  if (g.shuffled) {
    order.resize(size_t(clusters));
    for (int64_t i = 0; i < clusters; ++i) order[size_t(i)] = i;
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
  }
  for (int64_t done = 0; done < clusters; done += int64_t(now.size())) {
    now.clear();
    const int64_t count = std::min<int64_t>(clusters - done, g.shuffled ? 1 + int64_t(random_below(uint64_t(most))) : 1);
    for (int64_t i = done; i < done + count; ++i) now.push_back(g.shuffled ? order[size_t(i)] : i);
    run_side_by_side(now);
  }

  for (Block& block : g.blocks) std::free(block.buffer);
  g.blocks.clear();
  g.busy = false;
}

// ---- what the wrappers call

void meet(Call call, void* mine, Work work, const Where& where) {
  if (!gather(call, mine, where)) return;
  work(self->warp->mine);
  release(*self->warp);
}

unsigned char* shared_memory() {
  if (self == &g.main) fail("GPU_SHARED_MEMORY outside a kernel");
  return self->block->shared;
}

uint32_t shared_address(const void* shared, const Where& where) {
  if (self == &g.main) fail("shared_address outside a kernel");
  self->call = Call::ADDRESS, self->where = where;
  check_shared(shared, 0, 1);
  return SHARED_START + uint32_t(static_cast<const unsigned char*>(shared) - self->block->shared);
}

void block_barrier(const Where& where) {
  if (!gather(Call::SYNC_BLOCK, nullptr, where)) return;
  Block& block = *self->block;
  if (block.alive != g.grid.threads)
    fail("all threads of the block are needed, and %d have exited", g.grid.threads - block.alive);
  block.waiting.push_back(self->warp);
  if (block.waiting.size() < block.warps.size()) return suspend();
  const auto waiting = std::move(block.waiting);
  block.waiting.clear();
  for (Warp* warp : waiting) release(*warp);
}

void named_barrier(Call call, int id, int threads, const Where& where) {
  int mine[2] = {id, threads};
  if (self != &g.main) self->parity = uint32_t(id);
  if (!gather(call, mine, where)) return;
  Warp& warp = *self->warp;
  Block& block = *self->block;
  for (void* other : warp.mine)
    if (std::memcmp(other, mine, sizeof mine) != 0) fail("lanes of one warp name different barriers or numbers of threads");
  if (id < 1 || id > 15) fail("barrier %d is not one of 1 to 15", id);
  if (threads <= 0 || threads % 32 || threads > g.grid.threads)
    fail("%d threads: not a multiple of 32 within the block", threads);
  Named& named = block.named[id];
  if (named.arrived && named.threads != threads) fail("barrier %d: %d threads here, %d elsewhere", id, threads, named.threads);
  if (named.warps >> warp.index & 1) fail("barrier %d: this warp came twice before it was complete", id);
  named.threads = threads, named.arrived += 32, named.warps |= 1u << warp.index;
  const bool waits = call == Call::NAMED_WAIT;
  if (named.arrived < threads) {
    if (!waits) return release(warp);
    named.waiting |= 1u << warp.index;
    return suspend();
  }
  const uint32_t waiting = named.waiting;
  named = {};
  for (Warp& other : block.warps)
    if (waiting >> other.index & 1) release(other);
  release(warp);
}

void atomic_happens() {
  if (self == &g.main) return;
  if (g.shuffled ? random_below(8) == 0 : ++g.atomics % 4096 == 0) let_others();
}

void atomic_lost() {
  if (self != &g.main) let_others();
}

void copy_async(void* shared, const void* global, const Where& where) {
  if (self == &g.main) fail("copy16_async outside a kernel");
  self->call = Call::COPY_ASYNC, self->where = where;
  check_shared(shared, 16, 16);
  check_source(global);
  poison(shared, 16);
  hide(shared, 16);
  self->copies.push_back({static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), self->group});
}

void copy_commit() { ++self->group; }

void copy_wait(uint32_t pending, const Where& where) {
  auto& copies = self->copies;
  self->call = Call::COPY_WAIT, self->where = where;
  size_t done = 0;
  for (; done < copies.size() && copies[done].group + pending < self->group; ++done) {
    const Copy& copy = copies[done];
    show(copy.to, 16);
    check_untouched(copy.to, 16, *self->block);
    std::memcpy(copy.to, copy.from, 16);
  }
  copies.erase(copies.begin(), copies.begin() + ptrdiff_t(done));
}

void load_matrices(uint32_t* out, const void* shared, const Where& where) {
  if (self == &g.main) fail("load_matrices outside a kernel");
  self->call = Call::LOAD_MATRICES, self->where = where;
  check_shared(shared, 16, 16);
  Load mine{shared, out};
  meet(Call::LOAD_MATRICES, &mine, load_work, where);
}

void multiply_s8(int32_t* sum, const uint32_t* a, uint32_t b0, uint32_t b1, const Where& where) {
  Multiply mine{sum, a, {b0, b1}};
  meet(Call::MULTIPLY_S8, &mine, multiply_work, where);
}

void barrier_init(uint64_t* barrier, uint32_t arrivals, const Where& where) {
  need_hopper(Call::BARRIER_INIT, where);
  check_shared(barrier, 8, 8);
  Block& block = *self->block;
  if (arrivals == 0 || arrivals >= 1u << 20) fail("%u arrivals: a barrier counts 1 to 2^20 - 1", arrivals);
  for (const Barrier& other : block.barriers)
    if (other.at == barrier) fail("the barrier is initialised already");
  const uint64_t mark = BARRIER_MARK << 24 | block.barriers.size();
  std::memcpy(barrier, &mark, 8);
  block.barriers.push_back({.block = &block, .at = barrier, .expected = arrivals, .pending = arrivals, .initialiser = self});
}

void barrier_init_fence(const Where& where) {
  need_hopper(Call::BARRIER_FENCE, where);
  for (Barrier& barrier : self->block->barriers)
    if (barrier.initialiser == self) barrier.fenced = true;
}

void barrier_arrive(Call call, uint64_t* at, uint32_t bytes, int rank, const Where& where) {
  need_hopper(call, where);
  check_shared(at, 8, 8);
  Block& block = rank < 0 ? *self->block : peer(rank);
  Barrier& barrier = usable_barrier(reinterpret_cast<uint64_t*>(at_same_offset(at, block)), block, false);
  if (barrier.pending == 0) fail("more than the %u arrivals that the barrier was initialised for", barrier.expected);
  if (call == Call::BARRIER_EXPECT) barrier.bytes += bytes;
  if (barrier.bytes >= 1 << 20)
    fail("%lld bytes under way: a barrier counts up to 2^20 - 1", static_cast<long long>(barrier.bytes));
  --barrier.pending;
  settle(barrier);
}

void barrier_wait(uint64_t* at, uint32_t parity, const Where& where) {
  need_hopper(Call::BARRIER_WAIT, where);
  check_shared(at, 8, 8);
  if (parity > 1) fail("parity %u is neither 0 nor 1", parity);
  Barrier& barrier = usable_barrier(at, *self->block, false);
  while (barrier.phase == parity) {
    self->call = Call::BARRIER_WAIT, self->where = where, self->at = &barrier, self->parity = parity;
    self->next = barrier.waiting;
    barrier.waiting = self;
    suspend();
  }
}

void bulk_copy(Call call, void* shared, const void* global, uint32_t bytes, uint64_t* at, int mask, const Where& where) {
  need_hopper(call, where);
  check_shared(shared, bytes, 16);
  check_shared(at, 8, 8);
  check_source(global);
  if (bytes == 0 || bytes % 16) fail("%u bytes: not a positive multiple of 16", bytes);
  const size_t blocks = self->block->cluster->blocks.size();
  if (mask == 0 || (mask > 0 && mask >> blocks))
    fail("mask %x names no block, or one outside the cluster of %zu", unsigned(mask), blocks);
  for (size_t rank = 0; rank < blocks; ++rank) {
    if (mask < 0 ? rank != size_t(self->block->rank) : !(mask >> rank & 1)) continue;
    Block& block = peer(int(rank));
    Barrier& barrier = usable_barrier(reinterpret_cast<uint64_t*>(at_same_offset(at, block)), block, true);
    unsigned char* to = at_same_offset(shared, block);
    poison(to, bytes);
    hide(to, bytes);
    g.flights.push_back({to, static_cast<const unsigned char*>(global), bytes, &barrier});
  }
}

uint32_t cluster_rank(const Where& where) {
  need_hopper(Call::CLUSTER_RANK, where);
  return uint32_t(self->block->rank);
}

void cluster_sync(const Where& where) {
  need_hopper(Call::CLUSTER_SYNC, where);
  if (!gather(Call::CLUSTER_SYNC, nullptr, where)) return;
  Cluster& cluster = *self->block->cluster;
  cluster.arrived += 32;
  cluster.waiting.push_back(self->warp);
  if (cluster.arrived < cluster.alive) return suspend();
  complete_cluster_sync(cluster);
}

void multiply_fence(const Where& where) {
  need_hopper(Call::MULTIPLY_FENCE, where);
  meet(Call::MULTIPLY_FENCE, nullptr, [](void* const*) { self->warp->fenced = true; }, where);
}

void multiply_commit(const Where& where) {
  need_hopper(Call::MULTIPLY_COMMIT, where);
  meet(Call::MULTIPLY_COMMIT, nullptr, [](void* const*) { ++self->warp->group; }, where);
}

void multiply_wait(int pending, int32_t* sum, const Where& where) {
  const Call call = sum ? Call::MULTIPLY_FINISH : Call::MULTIPLY_WAIT;
  need_hopper(call, where);
  if (!gather(call, sum, where)) return;
  Warp& warp = *self->warp;
  while (!warp.products.empty() && warp.products[0].group + uint32_t(pending) < warp.group) {
    Product& product = *warp.products[0].product;
    while (product.issued < 4) {
      warp.late = self;
      suspend();
      warp.late = nullptr;
    }
    if (!product.done) execute(*warp.block, product);
    --product.into[warp.index % 4]->pending;
    warp.products.erase(warp.products.begin());
  }
  if (sum) hand_over(warp);
  release(warp);
}

void multiply_64x256(int32_t* sum, uint64_t a, uint64_t b, const Where& where) {
  struct Mine {
    int32_t* sum;
    uint64_t a, b;
  } mine{sum, a, b};
  need_hopper(Call::MULTIPLY_64X256, where);
  if (!gather(Call::MULTIPLY_64X256, &mine, where)) return;
  Warp& warp = *self->warp;
  for (void*& lane : warp.mine) {
    const auto& other = *static_cast<Mine*>(lane);
    if (other.a != a || other.b != b) fail("lanes of one warp give different descriptors");
    lane = other.sum;
  }
  issue(warp, a, b, where);
  release(warp);
}

// A block shares out what it was launched with: at most its threads' part of 65,536, in steps of 8 a thread. A warp that
// wants more waits until others have given up enough.
void set_registers(int count, bool more, const Where& where) {
  need_hopper(Call::REGISTERS, where);
  if (!gather(Call::REGISTERS, nullptr, where)) return;
  Warp& warp = *self->warp;
  Block& block = *self->block;
  warpgroup_of(warp);
  if (count < 24 || count > MOST_REGISTERS || count % 8)
    fail("%d registers: not a multiple of 8 in 24 to %d", count, MOST_REGISTERS);
  if (more ? count < warp.registers : count > warp.registers)
    fail("%d registers after %d is the other direction", count, warp.registers);
  warp.wanted = count;
  while (32 * (count - warp.registers) > block.registers) {
    block.in_want.push_back(self);
    suspend();
  }
  block.registers -= 32 * (count - warp.registers);
  warp.registers = count;
  for (Fiber* other : std::exchange(block.in_want, {})) wake(other);
  release(warp);
}

}  // namespace gpu::sim

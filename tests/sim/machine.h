// The simulated multiprocessor: what it holds, and what the files of it ask of each other.
//
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
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "poison.h"
#include "sim.h"

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__)) && !defined(CLIPSCAN_SIM_UCONTEXT)
#define CLIPSCAN_SIM_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace gpu::sim {

constexpr size_t ZONE = 1024;           // unused bytes on either side of a block's shared memory
constexpr int MOST_REGISTERS = 256;     // of a thread, as setmaxnreg counts
constexpr uint32_t SHARED_START = 1024;  // where the hardware's own bytes end and a block's begin

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

struct Machine {
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

extern Machine g;
extern Fiber* self;  // the one that runs; &g.main outside kernels

uint64_t random_below(uint64_t n);

// ---- words: words.cpp

const char* name_of(Call call);
std::string place(const Where& where);
std::string who(const Fiber* fiber);
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);
[[noreturn]] void deadlock();

// ---- fibers: stacks.cpp has their stacks, turns.cpp says whose turn it is

void step(Fiber* to);  // to another stack
Fiber* new_fiber();
void start_fiber(Fiber* fiber, int number, Block& block, int thread);
void check_canaries(const Fiber* fiber);
void wake(Fiber* fiber);
Fiber* next_fiber();
void suspend();  // until somebody wakes this fiber
void let_others();
void exit_fiber();  // grid.cpp

// ---- what warps do together: warps.cpp

bool same(const Where& a, const Where& b);
// True for the last of 32 lanes, with the others asleep until release(); false for them, once released.
bool gather(Call call, void* mine, const Where& where);
void release(Warp& warp);
void complete_cluster_sync(Cluster& cluster);
Warpgroup& warpgroup_of(const Warp& warp);

// ---- shared memory: shared.cpp

void need_hopper(Call call, const Where& where);
void check_shared(const void* memory, size_t bytes, size_t alignment);
void check_source(const void* memory);
void check_untouched(const unsigned char* to, size_t bytes, const Block& block);

// ---- bulk copies under way: barriers.cpp

void land(size_t flight);
bool land_something_awaited();

// ---- matrices: mma.cpp

// out [rows_a, rows_b] = a [rows_a, 32] b [rows_b, 32]^T
void dot_rows(const int8_t* a, int rows_a, const int8_t* b, int rows_b, int32_t* out);
inline int32_t wrapping_sum(int32_t a, int32_t b) { return int32_t(uint32_t(a) + uint32_t(b)); }

}  // namespace gpu::sim

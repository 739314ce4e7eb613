// Waiting for one another: lanes of a warp, warps of a block, blocks of a cluster; atomics, and registers given up.
#include <cstring>
#include <utility>

#include "machine.h"

namespace gpu::sim {

bool same(const Where& a, const Where& b) { return a.line() == b.line() && a.column() == b.column(); }

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

Warpgroup& warpgroup_of(const Warp& warp) {
  if (size_t(warp.index / 4 * 4 + 4) > warp.block->warps.size())
    fail("warp %d is not in a whole warpgroup of 128 threads", warp.index);
  return warp.block->groups[size_t(warp.index / 4)];
}

void meet(Call call, void* mine, Work work, const Where& where) {
  if (!gather(call, mine, where)) return;
  work(self->warp->mine);
  release(*self->warp);
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

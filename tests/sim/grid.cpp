// A launch from beginning to end: blocks one after another or side by side, and what must be so when they end.
#include <algorithm>
#include <cstdlib>

#include "machine.h"

namespace gpu::sim {

namespace {

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

}  // namespace gpu::sim

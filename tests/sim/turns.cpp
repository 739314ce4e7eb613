// Whose turn it is: fibers that can go on, in a fixed order or in one that is drawn.
#include "machine.h"

namespace gpu::sim {

Machine g;
Fiber* self = &g.main;

uint64_t random_below(uint64_t n) {
  g.dice ^= g.dice << 13, g.dice ^= g.dice >> 7, g.dice ^= g.dice << 17;
  return (g.dice >> 11) % n;
}

void wake(Fiber* fiber) {
  if (!fiber->asleep || fiber->ready) return;
  fiber->ready = true;
  (fiber->warp->starved ? g.starved : g.able).push(fiber);
}

namespace {

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

}  // namespace

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

void suspend() {
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

}  // namespace gpu::sim

// sm_90: barriers in shared memory, and bulk copies that complete them.
#include <cstring>

#include "machine.h"

namespace gpu::sim {

namespace {

constexpr uint64_t BARRIER_MARK = 0x6261727269ull;  // above 24 bits of index

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

}  // namespace

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

}  // namespace gpu::sim

// Shared memory, and copies to it by cp.async.
#include <cstring>

#include "machine.h"

namespace gpu::sim {

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

}  // namespace gpu::sim

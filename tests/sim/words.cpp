// What is said of a mistake, and where.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "machine.h"

namespace gpu::sim {

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

std::string place(const Where& where) {
  const std::string file = where.file_name();
  if (file.empty()) return "";
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string who(const Fiber* fiber) {
  return "block " + std::to_string(fiber->block->index) + ", thread " + std::to_string(fiber->thread) + " (warp " +
         std::to_string(fiber->thread / 32) + ", lane " + std::to_string(fiber->lane) + ")";
}

void fail(const char* format, ...) {
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

namespace {

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

}  // namespace

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

}  // namespace gpu::sim

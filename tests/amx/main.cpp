// The compiled AMX kernel against its source in plain C++, on random tiles: same values, same hits, same stop. On a
// processor with AMX it runs there; on another with AVX-512 its tile instructions are trapped.
#include <cstdio>
#include <random>
#include <vector>

#include "../../csrc/amx.h"
#include "../../csrc/kernel.h"
#include "trap.h"

namespace {

constexpr int32_t FAR = 1 << 27;

struct Example {
  Example(std::mt19937& random, int64_t steps, int stops, bool columns, int32_t reach)
      : groups(16 * steps), rows(groups * 32), panel(groups * 32 * 4), start(STOPS * 32), limit(STOPS * 32),
        base(STOPS * 32), column_reach(32), stops(stops), columns(columns) {
    std::uniform_int_distribution<int> code(-127, 127), near(-reach, reach);
    for (int32_t& word : rows)
      for (int b = 0; b < 4; ++b) reinterpret_cast<int8_t*>(&word)[b] = int8_t(code(random));
    for (uint8_t& one : panel) one = uint8_t(int8_t(code(random)));
    for (auto* some : {&start, &limit, &base, &column_reach})
      for (int32_t& one : *some) one = near(random);
    for (int stop = 0; stop < STOPS; ++stop)  // at every third, no pair is near: products do not reach FAR
      if (code(random) % 3 == 0)
        for (int i = 0; i < 32; ++i) limit[stop * 32 + i] += FAR, base[stop * 32 + i] += FAR;
    start[3] = NEVER, limit[5] = base[5] = ABSENT;
  }

  struct Result {
    int stop;
    bool any;
    std::vector<int32_t> value, product;
    std::vector<uint32_t> hit, compared;
    bool operator==(const Result&) const = default;
  };

  Result by(const Kernel& kernel) const {
    Result out{0, false, std::vector<int32_t>(1024, -1), std::vector<int32_t>(1024, -1), std::vector<uint32_t>(32),
               std::vector<uint32_t>(32)};
    Tile tile{rows.data(), panel.data(), groups, start.data(), limit.data(), base.data(), 32,
              columns ? column_reach.data() : nullptr, uint32_t(stops), out.value.data(), out.hit.data()};
    const KernelHold hold(kernel);
    out.stop = kernel.filter(tile);
    tile.value = out.product.data(), tile.hit = out.compared.data();
    kernel.multiply(tile);
    out.any = kernel.compare(tile);
    return out;
  }

  int64_t groups;
  std::vector<int32_t> rows;
  std::vector<uint8_t> panel;
  std::vector<int32_t> start, limit, base, column_reach;
  int stops;
  bool columns;
};

}  // namespace

int main() {
  const bool here = why_not_amx().empty();
  if (!here) trap_tile_instructions();
  std::mt19937 random(0);
  int ended[STOPS + 1] = {}, wrong = 0;
  for (int64_t steps : {1, 2, 3, 4, 5, 8, 12, 64})
    for (int stops = 0; stops < 8; ++stops)
      for (bool columns : {false, true})
        for (int32_t reach : {1 << 10, 1 << 14, 1 << 18, 1 << 20}) {
          const Example example(random, steps, stops, columns, reach);
          const Example::Result ours = example.by(kernel_amx);
          wrong += ours != example.by(kernel_amx_plain);
          ++ended[ours.stop];
        }
  std::printf("%s: %d wrong; ended at", here ? "native" : "trapped", wrong);
  for (int count : ended) std::printf(" %d", count);
  std::printf("\n");
  return wrong != 0;
}

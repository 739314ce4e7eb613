// sm_90: matrix products of a warpgroup, asynchronous.
#include <cstring>

#include "machine.h"

namespace gpu::sim {

namespace {

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

}  // namespace

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

}  // namespace gpu::sim

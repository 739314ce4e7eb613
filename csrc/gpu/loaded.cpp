#include "loaded.h"

#include <cmath>
#include <cstring>
#include <random>

#include "../copies.h"
#include "../parallel.h"
#include "../refine.h"

namespace gpu {

namespace {

constexpr int64_t STAGE_BYTES = 32 << 20;  // of rows on their way to the device; two of them

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

int64_t size_of(Type type) { return type == Type::float32 ? 4 : type == Type::float64 ? 8 : 2; }

// What the parts of the host are copied as: their own type where they agree on one and lie dense, else float32.
Type common_type(const Source& source) {
  const ::Type first = source.parts[0].type;
  for (const ::Part& part : source.parts)
    if (part.type != first || part.type == ::Type::float64 ||
        part.column_step != size_of(Type(int(part.type))))
      return Type::float32;
  return Type(int(first));
}

// Rows [begin, end) of the host, dense, as `type`.
void pack(const Source& source, Type type, int64_t begin, int64_t end, char* to, int threads) {
  const Kernel& kernel = *usable_kernels().front();
  const int64_t bytes = source.d * size_of(type);
  parallel_rows(end - begin, 256, threads, [&](int64_t from, int64_t until) {
    std::vector<float> scratch(source.d);
    for (int64_t i = begin + from; i < begin + until; ++i) {
      const char* const raw = source.raw(i);
      const void* const row =
          type == Type::float32 ? static_cast<const void*>(source.row(i, scratch.data(), kernel)) : raw;
      std::memcpy(to + (i - begin) * bytes, row, size_t(bytes));
    }
  });
}

Loaded::Selection make_codes(const DevicePtr& device, int64_t n, int width) {
  const int chunks = int(round_up(width, CHUNK) / CHUNK);
  const int64_t padded = round_up(std::max<int64_t>(n, 1), UNIT);
  Loaded::Selection out{{device, chunks * padded * CHUNK}, {device, n}, {device, n}, {device, padded / TILE}, {}};
  out.code.fill(0), out.tile_error.fill(0);
  out.codes = {out.code.data(), out.norm.data(), out.error.data(), out.tile_error.data(), n, padded, chunks};
  return out;
}

}  // namespace

Loaded::Loaded(DevicePtr device, Input input, const Codebook& book, int64_t room, int threads, const StopFlag& stop)
    : device_(std::move(device)), n_(input.n), input_(std::move(input)) {
  use(device_->number);
  const ::Units units(book, input_.d);
  units_ = {up((1 + 3 * units.relative) * (1 + 1e-6)), up(3 * units.absolute * units.factor * (1 + 1e-6)),
            up((1 + 2 * units.relative) * units.factor * (1 + 1e-6)), up(2 * units.absolute * units.factor * (1 + 1e-6))};
  own_ = make_codes(device_, n_, int(book.sign.size() / 2));
  take_originals(room);
  encode_rows(book, threads, stop);
}

Loaded::Loaded(LoadedPtr whole, const std::vector<uint32_t>& positions)
    : device_(whole->device_), n_(int64_t(positions.size())), whole_(std::move(whole)), which_(positions) {
  use(device_->number);
  which_here_ = Buffer<uint32_t>(device_, n_);
  which_here_.upload(which_);
  own_ = base().select(which_here_.data(), n_);
  device_->wait();
}

Codes Loaded::codes() const { return own_.codes; }

Rows Loaded::rows() const {
  const Loaded& all = base();
  return {all.parts_.data(), all.part_count_, all.fast_, int(d()), whole_ ? which_here_.data() : nullptr};
}

Loaded::Selection Loaded::select(const uint32_t* positions, int64_t count) const {
  Selection out = make_codes(device_, count, own_.codes.chunks * CHUNK);
  gather_codes(own_.codes, positions, count, out.codes, device_->stream);
  return out;
}

Loaded::Planes Loaded::planes() const {
  use(device_->number);
  return {own_.code.download(own_.code.size()), own_.norm.download(n_), own_.error.download(n_),
          own_.tile_error.download(own_.tile_error.size())};
}

std::vector<uint64_t> hash_rows(const DevicePtr& device, const Input& input) {
  use(device->number);
  Buffer<Part> parts(device, int64_t(input.parts.size()));
  parts.upload(input.parts);
  Buffer<uint64_t> hash(device, input.n);
  hash_rows({parts.data(), int(input.parts.size()), 0, int(input.d), nullptr}, input.n, hash.data(), device->stream);
  return hash.download(input.n);
}

void Loaded::take_originals(int64_t room) {
  std::vector<Part> parts = input_.parts;
  if (input_.host.n) {
    const Type type = common_type(input_.host);
    const int64_t bytes = n_ * input_.d * size_of(type);
    if (bytes > room) return;
    originals_ = Buffer<char>(device_, bytes);
    parts = {{originals_.data(), type, 0, n_, input_.d * size_of(type), size_of(type)}};
  }
  fast_ = parts[0].type == Type::float32 ? 4 : parts[0].type == Type::float16 ? 2 : 0;
  for (const Part& part : parts)
    if (part.type != parts[0].type || part.column_step != size_of(part.type) || input_.d % 4 || part.row_step % 16 ||
        reinterpret_cast<uintptr_t>(part.data) % 16)
      fast_ = 0;
  part_count_ = int(parts.size());
  parts_ = Buffer<Part>(device_, part_count_);
  parts_.upload(parts);
  device_->wait();  // `parts` is read until here
}

void Loaded::encode_rows(const Codebook& book, int threads, const StopFlag& stop) {
  const Rotation r = book.rotation();
  Buffer<float> centre(device_, r.d), sign(device_, 2 * r.width);
  centre.upload(book.centre), sign.upload(book.sign);
  EncodeTask task{{}, 0, 0, int(r.width), int(r.span), centre.data(), sign.data(), r.shrink, r.gain, own_.code.data(),
                  own_.codes.padded, own_.norm.data(), own_.error.data(), own_.tile_error.data()};

  if (!input_.host.n) {
    task.rows = rows(), task.count = n_;
    encode(task, device_->stream);
  } else {
    const Type type = common_type(input_.host);
    const int64_t row_bytes = input_.d * size_of(type);
    const int64_t step = std::clamp<int64_t>(STAGE_BYTES / row_bytes, 1, std::max<int64_t>(n_, 1));
    char* const pinned = device_->staging(size_t(2 * step * row_bytes));
    Buffer<char> staged(device_, originals_ ? 0 : 2 * step * row_bytes);
    Buffer<Part> part(device_, 2);
    std::vector<Part> parts(2);
    // While the device encodes one block the host packs the next. A half of the buffers is used again only after the
    // copies out of it are over.
    for (int64_t begin = 0, turn = 0; begin < n_; begin += step, ++turn) {
      check(stop);
      const int64_t end = std::min(n_, begin + step), half = turn % 2;
      char* const from = pinned + half * step * row_bytes;
      char* const to = originals_ ? originals_.data() + begin * row_bytes : staged.data() + half * step * row_bytes;
      pack(input_.host, type, begin, end, from, threads);
      if (turn) device_->wait();
      to_device(to, from, size_t((end - begin) * row_bytes), device_->stream);
      parts[half] = {to, type, 0, end - begin, row_bytes, size_of(type)};
      to_device(part.data() + half, &parts[half], sizeof(Part), device_->stream);
      task.rows = {part.data() + half, 1, 0, int(input_.d), nullptr};
      task.first = begin, task.count = end - begin;
      encode(task, device_->stream);
    }
    device_->wait();
  }
}

std::optional<std::vector<uint32_t>> Loaded::first_of(int threads, const StopFlag& stop) const {
  use(device_->number);
  if (!on_device()) {
    const KnnTask task{usable_kernels().front(), nullptr, 0, threads, 0, &stop};
    std::vector<uint32_t> first = ::find_copies(task, input_.host);
    for (int64_t i = 0; i < n_; ++i)
      if (first[i] != i) return first;
    return std::nullopt;
  }
  int64_t slots = 16;
  while (slots < 2 * n_) slots *= 2;
  Buffer<unsigned long long> table(device_, slots);
  Buffer<uint32_t> table_first(device_, slots), slot(device_, n_), first(device_, n_), spare(device_, 1);
  table.fill(0), table_first.fill(0xff), spare.fill(0);
  std::random_device random;
  const uint64_t salt = random() | uint64_t(random()) << 32;  // so that nobody can prepare rows of one hash
  find_copies({rows(), n_, salt, table.data(), table_first.data(), slots, slot.data(), first.data(), spare.data()},
              device_->stream);
  if (!spare.download(1)[0]) return std::nullopt;
  return first.download(n_);
}

}  // namespace gpu

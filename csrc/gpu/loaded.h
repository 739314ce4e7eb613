// Rows made ready for searches on one device: their codes, and the originals where they lie.
#pragma once
#include <cmath>
#include <optional>

#include "../encode.h"
#include "../source.h"
#include "kernels.h"
#include "memory.h"

namespace gpu {

inline float up(double x) { return std::nextafter(float(x), INFINITY); }  // a float that is not below x

// Rows as they come: on the host, or in parts on the device.
struct Input {
  Source host;              // host.n == 0: they are on the device
  std::vector<Part> parts;  // on the device
  int64_t n, d;
};

// csrc/rows.h:hash_rows of rows on the device.
std::vector<uint64_t> hash_rows(const DevicePtr& device, const Input& input);

class Loaded {
 public:
  // Encodes all rows. Originals from the host move to the device where they take at most `room` bytes.
  Loaded(DevicePtr device, Input input, const Codebook& book, int64_t room, int threads, const StopFlag& stop);
  // The rows at ascending positions of another.
  Loaded(std::shared_ptr<const Loaded> whole, const std::vector<uint32_t>& positions);

  int64_t n() const { return n_; }
  int64_t d() const { return base().input_.d; }
  bool on_device() const { return bool(base().parts_); }
  Codes codes() const;
  Rows rows() const;  // originals by position; on_device() only
  gpu::Units units() const { return base().units_; }
  const DevicePtr& device() const { return device_; }

  // first_of [n]: the first row equal to each; nothing where all rows differ.
  std::optional<std::vector<uint32_t>> first_of(int threads, const StopFlag& stop) const;

  // As they lie on the device, for tests: see kernels.h, Codes.
  struct Planes {
    std::vector<int8_t> code;
    std::vector<int32_t> norm;
    std::vector<float> error, tile_error;
  };
  Planes planes() const;

  // Codes of some positions, in that order, in memory of their own.
  struct Selection {
    Buffer<int8_t> code;
    Buffer<int32_t> norm;
    Buffer<float> error, tile_error;
    Codes codes;
  };
  Selection select(const uint32_t* positions, int64_t count) const;  // positions on the device

  const float* host_row(int64_t position, float* scratch, const Kernel& kernel) const {
    return base().input_.host.row(which_.empty() ? position : which_[position], scratch, kernel);
  }

 private:
  const Loaded& base() const { return whole_ ? *whole_ : *this; }
  void take_originals(int64_t room);
  void encode_rows(const Codebook& book, int threads, const StopFlag& stop);

  DevicePtr device_;
  int64_t n_;
  Input input_;
  gpu::Units units_;
  Selection own_;
  Buffer<char> originals_;            // uploaded ones
  Buffer<Part> parts_;                // on the device; empty: originals are on the host
  int part_count_ = 0, fast_ = 0;
  std::shared_ptr<const Loaded> whole_;
  std::vector<uint32_t> which_;       // position -> row, of a selection
  Buffer<uint32_t> which_here_;
};
using LoadedPtr = std::shared_ptr<const Loaded>;

}  // namespace gpu

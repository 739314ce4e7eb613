// Arrays on the device, in and out, by DLPack: the standard's own structs, and an array that Python can take over.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "kernels.h"
#include "memory.h"

namespace gpu {

// ---- the ABI of DLPack 0.x, unversioned: https://dmlc.github.io/dlpack

struct DLDevice {
  int32_t type, id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;  // strides in elements; null: dense
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
constexpr int32_t ON_CUDA = 2;
constexpr uint8_t SIGNED = 0, FLOATING = 2, BFLOATING = 4;

// A consumed capsule: the producer's memory lives as long as this.
class Borrowed {
 public:
  explicit Borrowed(const pybind11::capsule& capsule)
      : managed_(static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))) {
    if (!managed_) throw pybind11::error_already_set();
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  }
  Borrowed(Borrowed&& other) noexcept : managed_(other.managed_) { other.managed_ = nullptr; }
  ~Borrowed() {
    if (managed_ && managed_->deleter) managed_->deleter(managed_);
  }
  const DLTensor& tensor() const { return managed_->tensor; }
  Part part(int64_t first) const;  // rows of a search
  template <class T>
  const T* dense() const {         // checked: this type, on the device, contiguous
    return static_cast<const T*>(checked(sizeof(T), std::is_floating_point_v<T> ? FLOATING : SIGNED));
  }

 private:
  const void* checked(size_t size, uint8_t code) const;
  DLManagedTensor* managed_;
};

// A result that stays on the device: Python's libraries take it over without a copy.
class DeviceArray {
 public:
  template <class T>
  DeviceArray(DevicePtr device, Buffer<T> buffer, std::vector<int64_t> shape)
      : shape(std::move(shape)), device_(std::move(device)), data_(buffer.data()), size_(sizeof(T)),
        type_{std::is_floating_point_v<T> ? FLOATING : SIGNED, uint8_t(8 * sizeof(T)), 1},
        owner_(std::make_shared<Buffer<T>>(std::move(buffer))) {}
  pybind11::capsule dlpack() const;
  pybind11::array numpy() const;
  std::pair<int, int> where() const { return {ON_CUDA, device_->number}; }
  const std::vector<int64_t> shape;

 private:
  DevicePtr device_;
  void* data_;
  size_t size_;
  DLDataType type_;
  std::shared_ptr<void> owner_;
};

}  // namespace gpu

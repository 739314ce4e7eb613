// One device at work, and memory on it that frees itself.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "device.h"

namespace gpu {

// A device as one engine uses it: its own stream, on which everything is put in order.
class Device {
 public:
  explicit Device(int number) : number(number), facts(gpu::facts(number)) {
    use(number);
    stream = stream_create();
  }
  ~Device() {
    if (staging_) release_pinned(staging_);
    stream_destroy(stream);
  }
  Device(const Device&) = delete;

  // Pinned memory of the host, `bytes` of it, the same from call to call: to ask for it takes longer than to fill it.
  char* staging(size_t bytes) {
    if (bytes > staging_bytes_) {
      if (staging_) release_pinned(staging_);
      staging_ = nullptr, staging_bytes_ = 0;
      staging_ = static_cast<char*>(allocate_pinned(bytes));
      staging_bytes_ = bytes;
    }
    return staging_;
  }

  const int number;
  const Facts facts;
  Stream stream;

 private:
  char* staging_ = nullptr;
  size_t staging_bytes_ = 0;
};
using DevicePtr = std::shared_ptr<Device>;

// count values of T on the device. Movable; the stream order makes a release safe for what was put on it before.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(DevicePtr device, int64_t count)
      : device_(std::move(device)), count_(count),
        data_(static_cast<T*>(allocate(size_t(std::max<int64_t>(count, 1)) * sizeof(T), device_->stream))) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (data_) gpu::release(data_, device_->stream);
  }

  T* data() const { return data_; }
  int64_t size() const { return count_; }
  explicit operator bool() const { return data_ != nullptr; }

  void fill(uint8_t value) { gpu::fill(data_, value, size_t(count_) * sizeof(T), device_->stream); }
  void upload(const T* from, int64_t count) { to_device(data_, from, size_t(count) * sizeof(T), device_->stream); }
  void upload(const std::vector<T>& from) { upload(from.data(), int64_t(from.size())); }

  // Waits for the device.
  void download(T* to, int64_t count, int64_t first = 0) const {
    to_host(to, data_ + first, size_t(count) * sizeof(T), device_->stream);
    synchronize(device_->stream);
  }
  std::vector<T> download(int64_t count) const {
    std::vector<T> out(static_cast<size_t>(count));
    if (count) download(out.data(), count);
    return out;
  }

 private:
  void swap(Buffer& other) {
    std::swap(device_, other.device_), std::swap(count_, other.count_), std::swap(data_, other.data_);
  }
  DevicePtr device_;
  int64_t count_ = 0;
  T* data_ = nullptr;
};

}  // namespace gpu

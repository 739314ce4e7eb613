// One device at work, and memory on it that frees itself.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "../knn.h"
#include "device.h"

namespace gpu {

using StopFlag = std::atomic<bool>;
inline void check(const StopFlag& stop) {
  if (stop.load(std::memory_order_relaxed)) throw Stopped{};
}

constexpr size_t STAGED = 64 << 10;  // bytes that the driver takes from pageable memory without waiting for the stream

// A device as one engine uses it: its own stream, on which everything is put in order.
class Device {
 public:
  explicit Device(int number) : number(number), facts(gpu::facts(number)) {
    use(number);
    stream = stream_create();
  }
  ~Device() {
    if (staging_ && rests()) release_pinned(staging_);  // which waits for the device
    stream_destroy(stream);
  }
  Device(const Device&) = delete;

  // Before a call: nobody wants it to end yet.
  void begin() {
    if (left)
      throw Error("device " + std::to_string(number) + " is left to a call that did not end when it was interrupted; start Python anew");
    stop = false;
  }
  void interrupt() { stop = true; }

  // Until all that was put on the stream is done, or `stop`. Looks again and again: a wait inside the driver cannot be ended,
  // and a kernel that hangs would keep this thread for ever.
  void wait() const {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::microseconds EAGER{100}, LONGEST{1000};
    const auto start = Clock::now();
    while (!idle(stream)) {
      check(stop);
      const auto waited = Clock::now() - start;
      if (waited < EAGER) std::this_thread::yield();
      else std::this_thread::sleep_for(std::min<Clock::duration>(waited / 32, LONGEST));  // so it costs 3 % of a wait, at most
    }
  }

  // To memory that is not pinned: a copy there waits inside the driver for what was put on the stream before.
  void download(void* to, const void* from, size_t bytes) const {
    wait();
    to_host(to, from, bytes, stream);
    wait();
  }

  // Pinned memory of the host, `bytes` of it, the same from call to call: to ask for it takes longer than to fill it.
  char* staging(size_t bytes) {
    if (bytes > staging_bytes_) {
      wait();
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
  StopFlag stop{false};  // the call in hand shall end
  StopFlag left{false};  // the call in hand did not, and nobody waits for it any more

 private:
  bool rests() const {
    try {
      return !left && idle(stream);
    } catch (const Error&) {
      return false;
    }
  }
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
  void upload(const T* from, int64_t count) {
    const size_t bytes = size_t(count) * sizeof(T);
    if (bytes > STAGED) device_->wait();
    to_device(data_, from, bytes, device_->stream);
  }
  void upload(const std::vector<T>& from) { upload(from.data(), int64_t(from.size())); }

  // Waits for the device.
  void download(T* to, int64_t count, int64_t first = 0) const {
    device_->download(to, data_ + first, size_t(count) * sizeof(T));
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

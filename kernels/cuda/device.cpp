#include "device.h"

#include <cuda_runtime_api.h>

#include <algorithm>

namespace gpu {

namespace {

[[noreturn]] void fail(cudaError_t code, const std::string& what) {
  cudaGetLastError();  // not to be met again by the next call
  const std::string words = what + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ")";
  if (code == cudaErrorMemoryAllocation) throw OutOfMemory(words);
  throw Error(words);
}

void check(cudaError_t code, const std::string& what) {
  if (code != cudaSuccess) fail(code, what);
}

std::string size_in_words(size_t bytes) { return std::to_string(bytes) + " bytes"; }
cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  // Without any driver CUDA speaks of one that is too old.
  if (code == cudaErrorInsufficientDriver && driver_version() == 0) throw Error("finds no NVIDIA driver here");
  check(code, "looking for CUDA devices");
  return count;
}

Facts facts(int device) {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, device), "asking for the properties of device " + std::to_string(device));
  std::string uuid;
  for (const char byte : p.uuid.bytes) uuid += "0123456789abcdef"[byte >> 4 & 15], uuid += "0123456789abcdef"[byte & 15];
  return {p.name, p.major, p.minor, uuid};
}

int driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "asking for the driver's version");
  return version;
}

void use(int device) { check(cudaSetDevice(device), "choosing device " + std::to_string(device)); }

size_t free_memory() {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return free;
}

namespace {

cudaMemPool_t pool() {
  int device = 0;
  cudaMemPool_t pool;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetDefaultMemPool(&pool, device), "asking for the memory pool");
  return pool;
}

}  // namespace

Stream stream_create() {
  uint64_t everything = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool(), cudaMemPoolAttrReleaseThreshold, &everything), "keeping released memory");
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return stream;
}

void stream_destroy(Stream stream) { cudaStreamDestroy(native(stream)); }

void stream_wait(Stream stream, Stream other) {
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  check(cudaEventRecord(event, native(other)), "recording an event");
  check(cudaStreamWaitEvent(native(stream), event, 0), "waiting for the caller's stream");
  check(cudaEventDestroy(event), "destroying an event");
}

bool idle(Stream stream) {
  const cudaError_t code = cudaStreamQuery(native(stream));
  if (code == cudaErrorNotReady) return false;
  check(code, "waiting for the device");
  return true;
}

void wait_for_everything() { check(cudaDeviceSynchronize(), "waiting for the device"); }

void* allocate(size_t bytes, Stream stream) {
  void* memory = nullptr;
  check(cudaMallocAsync(&memory, std::max<size_t>(bytes, 16), native(stream)), "allocating " + size_in_words(bytes));
  return memory;
}

void release(void* memory, Stream stream) { cudaFreeAsync(memory, native(stream)); }

void trim() { check(cudaMemPoolTrimTo(pool(), 0), "giving memory back"); }

void* allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, std::max<size_t>(bytes, 16), cudaHostAllocDefault),
        "allocating " + size_in_words(bytes) + " of pinned host memory");
  return memory;
}

void release_pinned(void* memory) { cudaFreeHost(memory); }

void to_device(void* to, const void* from, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, native(stream)), "copying " + size_in_words(bytes) + " to the device");
}

void to_host(void* to, const void* from, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, native(stream)), "copying " + size_in_words(bytes) + " to the host");
}

void between_devices(void* to, const void* from, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)), "copying " + size_in_words(bytes) + " on the device");
}

void fill(void* memory, uint8_t value, size_t bytes, Stream stream) {
  check(cudaMemsetAsync(memory, value, bytes, native(stream)), "filling " + size_in_words(bytes));
}

void launch_kernel(const char* name, const void* kernel, int64_t blocks, int threads, size_t shared, Stream stream,
                   int cluster, void** arguments) {
  const std::string what = std::string("launching ") + name + " on " + std::to_string(blocks) + " blocks of " +
                           std::to_string(threads) + " threads with " + size_in_words(shared) + " of shared memory";
  if (shared > (48 << 10))
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), what);
  cudaLaunchAttribute together[1];
  together[0].id = cudaLaunchAttributeClusterDimension;
  together[0].val.clusterDim = {unsigned(cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = shared;
  config.stream = native(stream);
  config.attrs = together;
  config.numAttrs = cluster > 1;
  check(cudaLaunchKernelExC(&config, kernel, arguments), what);
}

Mark mark(Stream stream) {
  cudaEvent_t event;
  check(cudaEventCreate(&event), "creating an event");
  check(cudaEventRecord(event, native(stream)), "recording an event");
  return {event};
}

float milliseconds(Mark from, Mark to) {
  float out = 0;
  const auto first = static_cast<cudaEvent_t>(from.event), last = static_cast<cudaEvent_t>(to.event);
  check(cudaEventSynchronize(last), "waiting for an event");
  check(cudaEventElapsedTime(&out, first, last), "taking the time between two events");
  cudaEventDestroy(first), cudaEventDestroy(last);
  return out;
}

}  // namespace gpu

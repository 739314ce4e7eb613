// What the host asks of a device: memory, copies, launches. device.cpp is the CUDA body; tests/sim/ has another.
// Whatever fails throws Error with the runtime's own words and the sizes that were asked for.
#pragma once
#ifdef __CUDACC_RTC__  // compiled while a program runs (bench/gpu/nvrtc.py): no standard library, and no host to ask anything

using int8_t = signed char;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long;
using uint64_t = unsigned long;
#define INT32_MIN (-2147483647 - 1)
#define INT32_MAX 2147483647

namespace gpu {
using Stream = void*;
}

#else
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace gpu {

using Stream = void*;  // a cudaStream_t

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct OutOfMemory : Error {
  using Error::Error;
};

struct Facts {
  std::string name;
  int major, minor;
  std::string uuid;  // in hexadecimal
};

int device_count();    // throws Error where there is no driver
int driver_version();  // of CUDA that it offers: 13000 is 13.0
Facts facts(int device);
void use(int device);  // for this thread, from here on
size_t free_memory();

Stream stream_create();
void stream_destroy(Stream stream);
void stream_wait(Stream stream, Stream other);  // what is put on `stream` from here on waits for `other`
bool idle(Stream stream);  // whether all that was put on it is done
void wait_for_everything();  // on this thread's device, whatever stream it is on

void* allocate(size_t bytes, Stream stream);  // never null
void release(void* memory, Stream stream);
void trim();  // what was released goes back to the device; until then it is kept, since asking anew is slow
void* allocate_pinned(size_t bytes);          // on the host
void release_pinned(void* memory);

// From and to pageable memory these wait, inside the driver, for what was put on the stream before: to_host always, to_device
// for more than 64 KiB. Whoever must stay in charge waits first (csrc/gpu/memory.h).
void to_device(void* to, const void* from, size_t bytes, Stream stream);
void to_host(void* to, const void* from, size_t bytes, Stream stream);
void between_devices(void* to, const void* from, size_t bytes, Stream stream);  // or within one
void fill(void* memory, uint8_t value, size_t bytes, Stream stream);

// One kernel launch; use the template in gpu.cuh.
void launch_kernel(const char* name, const void* kernel, int64_t blocks, int threads, size_t shared, Stream stream,
                   int cluster, void** arguments);

// Milliseconds that the device took from one mark to the other.
struct Mark {
  void* event;
};
Mark mark(Stream stream);
float milliseconds(Mark from, Mark to);  // waits for `to`; both are gone afterwards

}  // namespace gpu

#endif  // __CUDACC_RTC__

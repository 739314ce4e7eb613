// device.h's second body: two devices in host memory. A stream is a queue of what was put on it, and nothing of it
// happens before somebody waits: who reads a result too early finds poison. (With CLIPSCAN_SIM_SEED, some of it does.)
#include "device.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include "control.h"
#include "driver.h"

namespace gpu {

namespace driver {

namespace {

int64_t counted = 0;
std::string failing, blocking;

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

int devices() { return int(number("CLIPSCAN_SIM_DEVICES", 2)); }

void check_device(int device) {
  if (device < 0 || device >= devices()) throw Error("device " + std::to_string(device) + ": invalid device ordinal");
}

}  // namespace

int64_t number(const char* name, int64_t otherwise) {
  const char* value = setting(name);
  return value ? std::strtoll(value, nullptr, 10) : otherwise;
}

void die(const std::string& words) {
  fflush(stdout);
  fprintf(stderr, "clipscan sim: %s\n", words.c_str());
  fflush(stderr);
  std::abort();
}

void call(const std::string& what) {
  const auto chosen = [](const std::string& which) {
    const int64_t first = std::strtoll(which.c_str(), nullptr, 10);
    return !which.empty() && (which.back() == '+' ? counted >= first : counted == first);
  };
  const char *fails = setting("CLIPSCAN_SIM_FAIL"), *blocks = setting("CLIPSCAN_SIM_BLOCK");
  const std::string failing_now = fails ? fails : "", blocking_now = blocks ? blocks : "";
  if (failing_now != failing || blocking_now != blocking) failing = failing_now, blocking = blocking_now, counted = 0;
  ++counted;
  if (chosen(blocking)) {
    ++endless;
    lock.unlock();  // others go on
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  if (chosen(failing)) throw Error(what + ": simulated failure (call " + std::to_string(counted) + ")");
}

size_t memory_of_device() { return size_t(number("CLIPSCAN_SIM_MEMORY", int64_t(1) << 30)); }

int capability() { return int(number("CLIPSCAN_SIM_CAPABILITY", 9)); }

}  // namespace driver

using namespace driver;

int device_count() {
  Guard guard(lock);
  call("looking for CUDA devices");
  if (devices() == 0) throw Error("looking for CUDA devices: no CUDA-capable device is detected (cudaErrorNoDevice)");
  return devices();
}

Facts facts(int device) {
  Guard guard(lock);
  call("asking for the properties of device " + std::to_string(device));
  check_device(device);
  return {"simulated", capability(), 0, "number " + std::to_string(device)};
}

int driver_version() { return 0; }

void use(int device) {
  Guard guard(lock);
  call("choosing device " + std::to_string(device));
  check_device(device);
  current = device;
}

size_t live_bytes() {
  Guard guard(lock);
  size_t sum = 0;
  for (size_t bytes : live) sum += bytes;
  return sum;
}
size_t live_pinned_bytes() { return pinned; }
int live_streams() { return int(queues.size()); }
int64_t calls() { return counted; }
int64_t endless_calls() { return endless; }
int64_t launches() { return launched; }

}  // namespace gpu

size_t clipscan_sim_live_bytes() { return gpu::live_bytes(); }
size_t clipscan_sim_live_pinned_bytes() { return gpu::live_pinned_bytes(); }
int clipscan_sim_live_streams() { return gpu::live_streams(); }
int64_t clipscan_sim_calls() { return gpu::calls(); }
int64_t clipscan_sim_endless() { return gpu::endless_calls(); }
int64_t clipscan_sim_launches() { return gpu::launches(); }

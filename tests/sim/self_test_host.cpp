// The host's side: memory, streams, two devices, failures.
#include <thread>

#include "control.h"
#include "self_test.h"

namespace gpu::self_test {

namespace {

__global__ void add_kernel(int* values, int count, int much) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += much;
}

template <class F>
std::string error_of(F call) {
  try {
    call();
  } catch (const OutOfMemory& error) {
    return std::string("out of memory: ") + error.what();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void memory() {
  CHECK(device_count() == 2 && facts(1).name == "simulated" && facts(0).major == 9 && facts(0).minor == 0);
  setenv("CLIPSCAN_SIM_CAPABILITY", "8.0", 1);
  CHECK(facts(0).major == 8);
  unsetenv("CLIPSCAN_SIM_CAPABILITY");
  CHECK(contains(error_of([] { use(2); }), "invalid device"));

  CHECK(live_bytes() == 0 && live_pinned_bytes() == 0 && live_streams() == 0);
  setenv("CLIPSCAN_SIM_MEMORY", "1000000", 1);
  Stream stream = stream_create();
  void* most = allocate(900000, stream);
  CHECK(live_bytes() == 900000 && free_memory() == 100000);
  CHECK(contains(error_of([&] { allocate(200000, stream); }), "out of memory: allocating 200000 bytes"));
  release(most, stream);
  release(allocate(200000, stream), stream);
  unsetenv("CLIPSCAN_SIM_MEMORY");
  void* pinned = allocate_pinned(100);
  CHECK(live_pinned_bytes() == 100);
  release_pinned(pinned);
  void* nothing = allocate(0, stream);
  CHECK(nothing);
  uint32_t word = 0;
  to_host(&word, nothing, 4, stream);
  wait(stream);
  CHECK(std::isnan(bits_to_float(word)));  // nobody wrote there
  release(nothing, stream);
  stream_destroy(stream);
  CHECK(live_bytes() == 0 && live_pinned_bytes() == 0 && live_streams() == 0);
}

void streams() {
  OnDevice on;
  std::vector<int> values = random_values<int>(100);
  auto* pinned = static_cast<int*>(allocate_pinned(400));
  int *device = on.copy(values), *other = on.room<int>(100);
  Stream second = stream_create();
  const auto before = launches();
  launch("add", add_kernel, 1, 128, 0, on.stream, 1, device, 100, 5);
  launch("add", add_kernel, 0, 128, 0, on.stream, 1, device, 100, 5);
  stream_wait(second, on.stream);
  between_devices(other, device, 400, second);
  to_host(pinned, other, 400, second);
  wait(second);
  CHECK(launches() == before + 1);
  for (int i = 0; i < 100; ++i) CHECK(pinned[i] == int(unsigned(values[size_t(i)]) + 5u));
  fill(other, 0x3f, 200, nullptr);
  stream_wait(second, nullptr);
  to_device(device, pinned, 400, second);
  use(1), wait_for_everything(), use(0);  // of another device: nothing has happened yet
  CHECK(launches() == before + 1);
  wait_for_everything();
  CHECK(on.read(other, 50)[49] == 0x3f3f3f3f);
  const Mark from = mark(second), to = mark(second);
  CHECK(milliseconds(from, to) >= 0);
  use(1);
  CHECK(contains(error_of([&] { launch("add", add_kernel, 1, 128, 0, second, 1, device, 100, 5); }), "another device"));
  use(0);
  CHECK(contains(error_of([&] { launch("add", add_kernel, 1, 128, 300 << 10, second, 1, device, 100, 5); }), "232448 bytes"));
  release_pinned(pinned);
  stream_destroy(second);
}

void devices() {  // a host thread for each
  std::vector<std::thread> threads;
  for (int device = 0; device < 2; ++device)
    threads.emplace_back([device] {
      use(device);
      OnDevice on;
      int* values = on.copy(std::vector<int>(1000, device));
      for (int i = 0; i < 50; ++i) {
        launch("add", add_kernel, 8, 128, 0, on.stream, 1, values, 1000, i);
        if (i % 7 == 0) wait(on.stream);
      }
      CHECK(on.read(values, 1000) == std::vector<int>(1000, device + 1225));
    });
  for (auto& thread : threads) thread.join();
}

void failures() {
  setenv("CLIPSCAN_SIM_FAIL", "3", 1);
  Stream stream = stream_create();
  void* at = allocate(64, stream);
  CHECK(contains(error_of([&] { fill(at, 0, 64, stream); }), "simulated failure"));
  CHECK(error_of([&] { fill(at, 0, 64, stream); }).empty());
  setenv("CLIPSCAN_SIM_FAIL", "2+", 1);
  wait(stream);
  CHECK(contains(error_of([&] { wait(stream); }), "simulated failure"));
  CHECK(contains(error_of([&] { launch("add", add_kernel, 1, 128, 0, stream, 1, static_cast<int*>(at), 1, 5); }), "launching add"));
  unsetenv("CLIPSCAN_SIM_FAIL");
  release(at, stream);
  stream_destroy(stream);
  device_count();
  CHECK(calls() == 1);
}

void read_before_synchronize() {
  OnDevice on;
  int* device = on.copy(std::vector<int>(8, 3));
  std::vector<int> out(8, 3);
  to_host(out.data(), device, 32, on.stream);
  const bool early = has_poison(out);
  wait(on.stream);
  if (early && out[7] == 3) noticed();
}

void no_stream_wait() {
  OnDevice first, second;
  int* device = first.copy(std::vector<int>(8, 3));
  if (has_poison(second.read(device, 8))) noticed();
}

void released_twice() {
  OnDevice on;
  void* at = allocate(16, on.stream);
  release(at, on.stream), release(at, on.stream);
}

void copied_past_the_end() {
  OnDevice on;
  std::vector<int> values(5);
  to_device(on.room<int>(4), values.data(), 20, on.stream);
}

}  // namespace

Cases host_tests() {
  return {{"memory", memory}, {"streams", streams}, {"devices", devices}, {"failures", failures}};
}

Cases host_mistakes() {
  return {{"read_before_synchronize", read_before_synchronize}, {"no_stream_wait", no_stream_wait},
          {"released_twice", released_twice}, {"copied_past_the_end", copied_past_the_end}};
}

}  // namespace gpu::self_test

// Streams of the simulated devices: queues of what was put on them, kernels among it, and the events between.
#include <chrono>

#include "driver.h"
#include "sim.h"

namespace gpu {

namespace driver {

namespace {

auto& default_queues = *new std::map<int, StreamQueue>;
uint64_t dice = 0x2545f4914f6cdd1dull;
int64_t put_on = 0;

bool run_next(StreamQueue& queue) {
  if (!queue.work.front().ends) return false;
  const auto work = std::move(queue.work.front().run);
  queue.work.pop_front();
  ++queue.done;
  work();
  return true;
}

// As a wait inside the driver, which nobody can end.
void run_until(StreamQueue& queue, int64_t position) {
  while (queue.done < position)
    if (!run_next(queue)) die("a call waits inside the driver for a kernel that never ends");
}

void run_orphans() {
  for (auto& queue : orphans)
    while (queue->done < queue->put && run_next(*queue)) {
    }
}

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

StreamQueue& queue_of(Stream stream) {
  if (stream) return *static_cast<StreamQueue*>(stream);
  StreamQueue& queue = default_queues[current];
  queue.device = current;
  return queue;
}

void put(StreamQueue& queue, std::function<void()> work, bool ends) {
  queue.work.push_back({std::move(work), ends});
  ++queue.put;
  if (number("CLIPSCAN_SIM_SEED", 0) == 0) return;
  dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
  if (dice >> 20 & 1)
    while (queue.done < queue.put && run_next(queue)) {
    }
}

void run_everything() {
  run_orphans();
  for (auto& queue : queues) run_until(*queue, queue->put);
  for (auto& [device, queue] : default_queues) run_until(queue, queue.put);
}

}  // namespace driver

using namespace driver;

Stream stream_create() {
  Guard guard(lock);
  call("creating a stream");
  run_orphans();
  queues.push_back(std::make_unique<StreamQueue>());
  queues.back()->device = current;
  return queues.back().get();
}

void stream_destroy(Stream stream) {
  Guard guard(lock);
  for (size_t i = 0; i < queues.size(); ++i)
    if (queues[i].get() == stream) {
      orphans.push_back(std::move(queues[i]));
      queues.erase(queues.begin() + ptrdiff_t(i));
      return;
    }
  die("destroying a stream that does not exist");
}

void stream_wait(Stream stream, Stream other) {
  Guard guard(lock);
  call("waiting for the caller's stream");
  StreamQueue& before = queue_of(other);
  if (before.device != current) throw Error("recording an event: the stream belongs to another device (invalid resource handle)");
  put(queue_of(stream), [&before, position = before.put] { run_until(before, position); });
}

bool idle(Stream stream) {
  Guard guard(lock);
  StreamQueue& queue = queue_of(stream);
  if (queue.done < queue.put && !run_next(queue)) return false;
  if (queue.done < queue.put) return false;
  call("waiting for the device");
  run_orphans();
  return true;
}

void wait_for_everything() {
  Guard guard(lock);
  call("waiting for the device");
  for (auto* list : {&queues, &orphans})
    for (auto& queue : *list)
      if (queue->device == current) run_until(*queue, queue->put);
  StreamQueue& queue = queue_of(nullptr);
  run_until(queue, queue.put);
}

namespace sim {

void launch_later(const char* name, int64_t blocks, int threads, size_t shared, Stream stream, int cluster,
                  std::function<void()> kernel) {
  Guard guard(lock);
  const std::string what = std::string("launching ") + name + " on " + std::to_string(blocks) + " blocks of " +
                           std::to_string(threads) + " threads with " + size_in_words(shared) + " of shared memory";
  call(what);
  const int major = capability();
  const size_t most = size_t(major >= 9 ? 227 : 163) << 10;
  StreamQueue& queue = queue_of(stream);
  if (queue.device != current) throw Error(what + ": the stream belongs to another device (invalid resource handle)");
  if (blocks < 0 || blocks >= int64_t(1) << 31 || threads <= 0 || threads > 1024) throw Error(what + ": invalid configuration");
  if (threads % 32) die(what + ": the simulator knows whole warps only");
  if (shared > most) throw Error(what + ": invalid argument; a block has " + size_in_words(most));
  if (cluster > 1 && (major < 9 || cluster > 8 || blocks % cluster))
    throw Error(what + ", " + std::to_string(cluster) + " together: invalid configuration");
  const bool ends = ++put_on != number("CLIPSCAN_SIM_HANG", 0);
  endless += !ends;
  put(queue, [=, words = std::string(name)] {
    sim::run({words.c_str(), blocks, threads, shared, std::max(cluster, 1), major}, kernel);
    ++launched;
    for (const auto& [first, allocation] : allocations) check_zones(first, allocation, "kernel " + words);
  }, ends);
}

}  // namespace sim

void launch_kernel(const char* name, const void*, int64_t, int, size_t, Stream, int, void**) {
  die(std::string("launching ") + name + ": in the simulator, only through the template gpu::launch");
}

Mark mark(Stream stream) {
  Guard guard(lock);
  call("recording an event");
  StreamQueue& queue = queue_of(stream);
  if (queue.device != current) throw Error("recording an event: the stream belongs to another device (invalid resource handle)");
  auto* event = new Event{&queue, queue.put + 1};
  put(queue, [event] { event->time = now(); });
  return {event};
}

float milliseconds(Mark from, Mark to) {
  Guard guard(lock);
  const std::unique_ptr<Event> first(static_cast<Event*>(from.event)), last(static_cast<Event*>(to.event));
  call("taking the time between two events");
  for (const Event* event : {last.get(), first.get()}) run_until(*event->queue, event->position);
  return float(last->time - first->time);
}

}  // namespace gpu

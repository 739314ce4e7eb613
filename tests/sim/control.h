// What a test may ask of the simulated devices, beside device.h.
//
// Environment, read at every call:
//   CLIPSCAN_SIM_SEED        other than 0: blocks and threads in an order drawn from it, copies land at random moments,
//                            several blocks at once (default 0: a fixed order, copies as late as possible)
//   CLIPSCAN_SIM_MEMORY      bytes of each device (1 GiB); past them allocate throws OutOfMemory
//   CLIPSCAN_SIM_DEVICES     how many (2)
//   CLIPSCAN_SIM_CAPABILITY  "9.0" (default, 227 KiB of shared memory a block) or "8.0" (163 KiB, and no sm_90 call)
//   CLIPSCAN_SIM_FAIL        n: the n-th call of device.h that can throw does so; "n+": and every one after it.
//                            Calls are counted from the moment the variable changes.
//   CLIPSCAN_SIM_BLOCK       likewise, but that call never returns
//   CLIPSCAN_SIM_HANG        n: the n-th kernel of this process never ends; a call that would wait for it inside the
//                            driver, where nobody can end the wait, aborts
#pragma once
#include <cstddef>
#include <cstdint>

namespace gpu {

size_t live_bytes();         // device memory allocated and not released, all devices
size_t live_pinned_bytes();  // likewise of the host
int live_streams();          // created and not destroyed
int64_t calls();             // of device.h that could have thrown, since the start or since CLIPSCAN_SIM_FAIL changed
int64_t launches();          // kernels run to their end
int64_t endless_calls();     // calls begun that never return, and kernels launched that never end

}  // namespace gpu

// The same for ctypes.
#pragma GCC visibility push(default)
extern "C" {
size_t clipscan_sim_live_bytes();
size_t clipscan_sim_live_pinned_bytes();
int clipscan_sim_live_streams();
int64_t clipscan_sim_calls();
int64_t clipscan_sim_endless();
int64_t clipscan_sim_launches();
}
#pragma GCC visibility pop

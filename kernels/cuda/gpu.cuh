// The one door to the hardware: every kernel of this folder reaches the GPU through these wrappers and CUDA's
// own spelling of threads (threadIdx, __global__, ...). tests/sim/ gives the header a second body for a C++
// compiler, so that the very same kernels run, and are checked, on a CPU.
#pragma once
#include "device.h"

#ifdef CLIPSCAN_SIM
#include "sim.h"
#else
#ifndef __CUDACC_RTC__
#include <tuple>
#endif

#define GPU_SHARED_MEMORY(name) extern __shared__ __align__(1024) unsigned char name[]

namespace gpu {

constexpr uint32_t ALL_LANES = 0xffffffffu;

// ---- threads together

__device__ inline void sync_block() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(); }
__device__ inline uint32_t ballot(bool here) { return __ballot_sync(ALL_LANES, here); }

template <class T>
__device__ inline T shuffle(T value, int lane) { return __shfl_sync(ALL_LANES, value, lane); }
template <class T>
__device__ inline T shuffle_xor(T value, int mask) { return __shfl_xor_sync(ALL_LANES, value, mask); }

// Barrier `id` (1 to 15) of `threads` threads, of which some wait and the others only report.
__device__ inline void named_wait(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- atomics

__device__ inline uint32_t atomic_add(uint32_t* at, uint32_t value) { return atomicAdd(at, value); }
__device__ inline unsigned long long atomic_add(unsigned long long* at, unsigned long long value) {
  return atomicAdd(at, value);
}
__device__ inline void atomic_min(uint32_t* at, uint32_t value) { atomicMin(at, value); }
__device__ inline void atomic_max(uint32_t* at, uint32_t value) { atomicMax(at, value); }
__device__ inline unsigned long long atomic_cas(unsigned long long* at, unsigned long long old, unsigned long long value) {
  return atomicCAS(at, old, value);
}

// ---- arithmetic that is rounded as it says, and never contracted to a fused multiply-add

__device__ inline float add_rn(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float sub_rn(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float mul_rn(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float sqrt_rn(float a) { return __fsqrt_rn(a); }
__device__ inline float add_up(float a, float b) { return __fadd_ru(a, b); }
__device__ inline float mul_up(float a, float b) { return __fmul_ru(a, b); }
__device__ inline float round_up(double a) { return __double2float_ru(a); }
__device__ inline float half_to_float(uint16_t bits) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
  return out;
}
__device__ inline float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline uint32_t float_to_bits(float value) { return __float_as_uint(value); }
__device__ inline int first_bit(uint32_t bits) { return __ffs(int(bits)) - 1; }

// ---- copies that run on their own (sm_80)

__device__ inline uint32_t shared_address(const void* shared) { return uint32_t(__cvta_generic_to_shared(shared)); }

__device__ inline void copy16_async(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most PENDING of this thread's groups are under way.
template <int PENDING>
__device__ inline void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// ---- matrix units of sm_80

// Four 8 x 16-byte matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void load_matrices(uint32_t (&out)[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared_address(shared)) : "memory");
}

// sum [16, 8] += a [16, 32] b [8, 32]^T, fragments as in PTX's mma.m16n8k32 for .s8.
__device__ inline void multiply_s8(int32_t (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- barriers in shared memory and bulk copies (sm_90)

__device__ inline void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// After barrier_init, before anybody else (the copy engine among them) uses the barriers.
__device__ inline void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void barrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and has the phase wait for `bytes` bytes of bulk copies as well.
__device__ inline void barrier_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// Waits until the phase of this parity is complete. A fresh barrier is in phase 0: waiting for parity 1 returns.
__device__ inline void barrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra end;\n"
      "bra again;\n"
      "end:\n"
      "}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}
// Sizes and addresses are multiples of 16; completion counts on the barrier. One thread calls it.
__device__ inline void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)), "l"(global), "r"(bytes), "r"(shared_address(barrier)) : "memory");
}

// ---- clusters of two blocks (sm_90)

__device__ inline uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The same bytes to the same shared address of each block in `mask`; each block's own barrier counts them.
__device__ inline void bulk_copy_to_all(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_address(shared)), "l"(global), "r"(bytes), "r"(shared_address(barrier)), "h"(mask) : "memory");
}
// Arrives at the barrier that lies at the same shared address in block `rank` of the cluster. Says that reads by the matrix
// units are over, and publishes no writes: release at the cluster's scope would wait for those of the whole GPU each time.
__device__ inline void barrier_arrive_at(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(shared_address(barrier)), "r"(rank) : "memory");
}

// ---- matrix units of sm_90

// Rows of 64 bytes, 16-byte pieces swizzled within 8 rows (64-byte mode), K-major: groups of 8 rows every 512 bytes.
__device__ inline uint64_t matrix_descriptor(const void* shared) {
  constexpr uint64_t SWIZZLE_64 = 2ull << 62, STRIDE = uint64_t(512 >> 4) << 32, LEADING = 1ull << 16;
  return SWIZZLE_64 | STRIDE | LEADING | uint64_t((shared_address(shared) & 0x3ffff) >> 4);
}

#if __CUDA_ARCH_FEAT_SM90_ALL
__device__ inline void multiply_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most PENDING groups are under way; shared memory that the others read is free.
template <int PENDING>
__device__ inline void multiply_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }
// Waits for all groups: `sum`, the matrix units' until then, may be read.
template <int N>
__device__ inline void multiply_finish(int32_t (&sum)[N]) {
  multiply_wait<0>();
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(sum[i])::"memory");
}
template <int COUNT>
__device__ inline void grow_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT>
__device__ inline void shrink_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }

// sum [64, 256] += a [64, 32] b [256, 32]^T of one warpgroup, both in shared memory; runs until multiply_wait.
__device__ inline void multiply_64x256(int32_t (&s)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, add;\n}"
      : "+r"(s[0]), "+r"(s[1]), "+r"(s[2]), "+r"(s[3]), "+r"(s[4]), "+r"(s[5]), "+r"(s[6]), "+r"(s[7]),
        "+r"(s[8]), "+r"(s[9]), "+r"(s[10]), "+r"(s[11]), "+r"(s[12]), "+r"(s[13]), "+r"(s[14]), "+r"(s[15]),
        "+r"(s[16]), "+r"(s[17]), "+r"(s[18]), "+r"(s[19]), "+r"(s[20]), "+r"(s[21]), "+r"(s[22]), "+r"(s[23]),
        "+r"(s[24]), "+r"(s[25]), "+r"(s[26]), "+r"(s[27]), "+r"(s[28]), "+r"(s[29]), "+r"(s[30]), "+r"(s[31]),
        "+r"(s[32]), "+r"(s[33]), "+r"(s[34]), "+r"(s[35]), "+r"(s[36]), "+r"(s[37]), "+r"(s[38]), "+r"(s[39]),
        "+r"(s[40]), "+r"(s[41]), "+r"(s[42]), "+r"(s[43]), "+r"(s[44]), "+r"(s[45]), "+r"(s[46]), "+r"(s[47]),
        "+r"(s[48]), "+r"(s[49]), "+r"(s[50]), "+r"(s[51]), "+r"(s[52]), "+r"(s[53]), "+r"(s[54]), "+r"(s[55]),
        "+r"(s[56]), "+r"(s[57]), "+r"(s[58]), "+r"(s[59]), "+r"(s[60]), "+r"(s[61]), "+r"(s[62]), "+r"(s[63]),
        "+r"(s[64]), "+r"(s[65]), "+r"(s[66]), "+r"(s[67]), "+r"(s[68]), "+r"(s[69]), "+r"(s[70]), "+r"(s[71]),
        "+r"(s[72]), "+r"(s[73]), "+r"(s[74]), "+r"(s[75]), "+r"(s[76]), "+r"(s[77]), "+r"(s[78]), "+r"(s[79]),
        "+r"(s[80]), "+r"(s[81]), "+r"(s[82]), "+r"(s[83]), "+r"(s[84]), "+r"(s[85]), "+r"(s[86]), "+r"(s[87]),
        "+r"(s[88]), "+r"(s[89]), "+r"(s[90]), "+r"(s[91]), "+r"(s[92]), "+r"(s[93]), "+r"(s[94]), "+r"(s[95]),
        "+r"(s[96]), "+r"(s[97]), "+r"(s[98]), "+r"(s[99]), "+r"(s[100]), "+r"(s[101]), "+r"(s[102]), "+r"(s[103]),
        "+r"(s[104]), "+r"(s[105]), "+r"(s[106]), "+r"(s[107]), "+r"(s[108]), "+r"(s[109]), "+r"(s[110]), "+r"(s[111]),
        "+r"(s[112]), "+r"(s[113]), "+r"(s[114]), "+r"(s[115]), "+r"(s[116]), "+r"(s[117]), "+r"(s[118]), "+r"(s[119]),
        "+r"(s[120]), "+r"(s[121]), "+r"(s[122]), "+r"(s[123]), "+r"(s[124]), "+r"(s[125]), "+r"(s[126]), "+r"(s[127])
      : "l"(a), "l"(b), "r"(1));
}
#endif  // sm_90a

#ifndef __CUDACC_RTC__
// ---- from the host

// kernel(arguments...) on `blocks` blocks of `threads`, with `shared` bytes of memory each, `cluster` blocks together.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared, Stream stream,
            int cluster, Arguments... arguments) {
  if (blocks == 0) return;
  std::tuple<Parameters...> values(arguments...);
  std::apply([&](auto&... value) {
    void* pointers[] = {static_cast<void*>(&value)...};
    launch_kernel(name, reinterpret_cast<const void*>(kernel), blocks, threads, shared, stream, cluster, pointers);
  }, values);
}
#endif

}  // namespace gpu

#endif  // CLIPSCAN_SIM

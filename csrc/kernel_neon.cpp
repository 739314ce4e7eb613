// Arm with the dot product extension (sdot): a tile of 8 x 12, twenty-four of the thirty-two registers hold sums.
#include <arm_neon.h>
#include <stdint.h>
typedef int32_t IVec __attribute__((vector_size(16)));
typedef float Vec __attribute__((vector_size(16)));
#define LANES 4
#define MR 8
#define VECS 3
#define GROUP 4
#define OFFSET 0
#define KERNEL kernel_neon
#define KERNEL_NAME "neon"
#define LOAD_CODES(at) (IVec) vld1q_u8(at)
#define DOT(sum, columns, row) (IVec) vdotq_s32((int32x4_t)(sum), (int8x16_t)(columns), (int8x16_t)(row))
#define AT_LEAST(a, b) \
  vaddvq_u32(vandq_u32(vcgeq_s32((int32x4_t)(a), (int32x4_t)(b)), (uint32x4_t){1, 2, 4, 8}))
#define FMA(a, b, c) (Vec) vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#include "kernel.inl"

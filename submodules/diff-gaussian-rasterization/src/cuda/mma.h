// Matrix products of one warp on tensor cores: D[16, 8] += A[16, 8] B[8, 8] with tf32 inputs and float sums.
//
// Fragments as the PTX manual lays out m16n8k8: with g = lane / 4 and t = lane % 4,
//   a[0..3] = A[g][t], A[g + 8][t], A[g][t + 4], A[g + 8][t + 4]
//   b[0..1] = B[t][g], B[t + 4][g]
//   d[0..3] = D[g][2t], D[g][2t + 1], D[g + 8][2t], D[g + 8][2t + 1]
#pragma once

#include "platform.h"

namespace splat::cuda {

// Without such tensor cores the products are float's own: their factors stay whole.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kTensorCores = false;
#else
constexpr bool kTensorCores = true;  // also in the host shim, which computes as they do
#endif

// The nearest number with tf32's 10 bits of mantissa, ties away from zero.
__device__ __forceinline__ float to_tf32(float a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(a));
  return __uint_as_float(bits);
#else
  const uint32_t bits = __float_as_uint(a);
  return (bits & 0x7f800000u) == 0x7f800000u ? a : __uint_as_float((bits + 0x1000u) & 0xffffe000u);
#endif
}

// a = high + low + at most 2^-22 |a|, both in tf32.
struct Split {
  float high, low;
};
__device__ __forceinline__ Split split(float a) {
  if constexpr (!kTensorCores) return {a, 0.f};
  const float high = to_tf32(a);
  return {high, to_tf32(a - high)};
}

// To tf32 as to_tf32() does, but for infinity, in fewer instructions. The NaN of a GPU's arithmetic is
// 0x7fffffff, which would be carried to zero.
__device__ __forceinline__ float round_rest(uint32_t bits) {
  const int most = 0x7fffefff;
  return __uint_as_float((uint32_t(min(int(bits), most)) + 0x1000u) & 0xffffe000u);
}

// The same to 2^-21 |a| in fewer instructions, for products that take both parts: the high one is cut off,
// not rounded. A product without low times low is then right to 2^-20. NaN stays NaN: where cutting makes it
// infinite, the low part keeps it.
__device__ __forceinline__ Split split_both(float a) {
  if constexpr (!kTensorCores) return {a, 0.f};
  const float high = __uint_as_float(__float_as_uint(a) & 0xffffe000u);
  return {high, round_rest(__float_as_uint(a - high))};
}

// All 32 lanes of a warp together. The inputs must be tf32 numbers already. Volatile: what needs all lanes
// must not be moved to where only some of them use the result.
__device__ __forceinline__ void mma(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
  // The same product through shuffles.
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  for (int k = 0; k < 8; ++k) {
    const int column = k % 4, upper = k / 4;
    const float low_row = __shfl_sync(kFullWarp, upper ? a[2] : a[0], 4 * g + column);
    const float high_row = __shfl_sync(kFullWarp, upper ? a[3] : a[1], 4 * g + column);
    const float left = __shfl_sync(kFullWarp, b[upper], 4 * (2 * t) + column);
    const float right = __shfl_sync(kFullWarp, b[upper], 4 * (2 * t + 1) + column);
    d[0] += low_row * left;
    d[1] += low_row * right;
    d[2] += high_row * left;
    d[3] += high_row * right;
  }
#endif
}

// Likewise for the low part of one of the factors, where there is one.
__device__ __forceinline__ void mma_low(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  if constexpr (kTensorCores) mma(d, a, b);
}

}  // namespace splat::cuda

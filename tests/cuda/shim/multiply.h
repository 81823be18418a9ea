// D[16, 8] = A[16, 8] B[8, 8] by one warp and the fragments of mma.h: on the host shim and on a GPU.
#pragma once

#include "mma.h"

namespace splat::cuda::selftest {

__global__ void multiply(const float* a, const float* b, float* d, bool full) {
  const int lane = int(threadIdx.x), g = lane / 4, t = lane % 4;
  const float left[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4], a[8 * (g + 8) + t + 4]};
  const float right[2] = {b[8 * t + g], b[8 * (t + 4) + g]};
  float high_a[4], low_a[4], high_b[2], low_b[2], sum[4] = {};
  for (int k = 0; k < 4; ++k) {
    const Split s = split(left[k]);
    high_a[k] = s.high;
    low_a[k] = s.low;
  }
  for (int k = 0; k < 2; ++k) {
    const Split s = split(right[k]);
    high_b[k] = s.high;
    low_b[k] = s.low;
  }
  if (full) {
    mma(sum, low_a, high_b);
    mma(sum, high_a, low_b);
  }
  mma(sum, high_a, high_b);
  d[8 * g + 2 * t] = sum[0];
  d[8 * g + 2 * t + 1] = sum[1];
  d[8 * (g + 8) + 2 * t] = sum[2];
  d[8 * (g + 8) + 2 * t + 1] = sum[3];
}

void run_multiply(const float* a, const float* b, float* d, bool full) {
  launch({"multiply", dim3(1), 32, 0, {}}, multiply, a, b, d, full);
}

}  // namespace splat::cuda::selftest

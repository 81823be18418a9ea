// What the gradient of a feature image says of splats: value[pixel][splat] = sum_c dOut[c][pixel]
// F[splat][c], the dW = dOut F^T of a product that multiplied weights with features.
//
// By one warp for its 32 pixels and eight splats: per eight channels two fragments of 16 pixels, three tf32
// products each (2^-20), whatever precision the features were rendered with: blending's adjoint takes
// differences of these values. A lane loads 10 numbers for 8 channels instead of 128, neighbouring lanes
// neighbouring pixels. Shared memory: the caller's rows, 1 KB.
#pragma once

#include "render_backward.h"

namespace splat::cuda {

// Writes rows of values by splat and pixel; all lanes of the warp together. Those of missing splats are zero.
__device__ __forceinline__ void feature_values(const RenderBackwardJob& job, const WarpSplat* group,
                                               int count, const WarpPixels& pixels, GroupRows& values) {
  const Raster<float>& raster = job.forward.raster.raster;
  const FragmentLane at = fragment_lane();
  const int channels = job.forward.channels, x = pixels.left + at.g;
  const int64_t plane = int64_t(raster.width) * raster.height;
  const bool exists = at.g < count;
  const float* const features =
      job.forward.features + (exists ? int64_t(group[at.g].gaussian) * channels : 0);
  const float* const gradients = job.d.features + int64_t(pixels.top) * raster.width + x;
  float d[2][4] = {};  // [fragment]: two rows of eight pixels
  for (int first = 0; first < channels; first += 8) {
    float high[2][4], low[2][4], high_f[2], low_f[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int c = first + at.t + 4 * half;
      const Split f = split_both(exists && c < channels ? features[c] : 0.f);
      high_f[half] = f.high, low_f[half] = f.low;
#pragma unroll
      for (int row = 0; row < kWarpHeight; ++row) {
        const bool given = c < channels && inside(raster, x, pixels.top + row);
        const Split g = split_both(given ? gradients[c * plane + int64_t(row) * raster.width] : 0.f);
        high[row / 2][2 * half + row % 2] = g.high, low[row / 2][2 * half + row % 2] = g.low;
      }
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      mma_low(d[m], low[m], high_f);
      mma_low(d[m], high[m], low_f);
      mma(d[m], high[m], high_f);
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) values.at(2 * at.t + i % 2, kWarpWidth * (i / 2) + at.g) = d[i / 4][i % 4];
  __syncwarp();
}

}  // namespace splat::cuda

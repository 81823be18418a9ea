// The adjoint of colours: given ones, or spherical harmonics and the direction that they are seen from.
#pragma once

#include "gaussian.h"
#include "jobs.h"
#include "splat/sh.h"

namespace splat::cuda {

// Rows of spherical harmonics, [32, row], on their way between memory, where the numbers of a Gaussian are
// neighbours, and the lanes, which need a Gaussian each. The odd stride keeps columns free of bank conflicts.
template <int kRow>
struct Rows {
  static constexpr int kStride = kRow | 1;
  float at[kWarp * kStride];

  // Calls visit(gaussian, column, number) for all numbers of the warp's rows; a lane without a Gaussian has
  // the index UINT32_MAX.
  template <class Visit>
  __device__ __forceinline__ void each(uint32_t gaussian, const Visit& visit) {
    for (int n = threadIdx.x % kWarp; n < kWarp * kRow; n += kWarp) {
      const uint32_t owner = __shfl_sync(kFullWarp, gaussian, n / kRow);
      if (owner != UINT32_MAX) visit(int64_t(owner), n % kRow, at[n / kRow * kStride + n % kRow]);
    }
  }
  __device__ __forceinline__ float* own() { return at + threadIdx.x % kWarp * kStride; }
};

// Colours given per Gaussian have degree -1.
constexpr int kGivenColors = -1;
template <int kDegree>
constexpr int kColorRow = kDegree < 0 ? 1 : 3 * sh_bases(kDegree);

// The gradient of the colour: to the harmonics, through `rows`, and to the mean and pose by the direction.
template <int kDegree>
__device__ __forceinline__ void sh_backward(const Camera<float>& camera, const ProjectBackwardJob& job,
                                            uint32_t gaussian, const Vec3<float>& mean, const float* d_rgb,
                                            Rows<kColorRow<kDegree>>& rows, Vec3<float>& d_mean,
                                            PoseGradient<float>& pose) {
  constexpr int kBases = sh_bases(kDegree);
  const int64_t stride = 3 * job.forward.in.sh_bases;
  const float* sh = job.forward.in.sh;
  rows.each(gaussian, [&](int64_t of, int column, float& number) { number = sh[of * stride + column]; });
  __syncwarp();
  const ViewDirection<float> view = view_direction(camera, mean);
  float basis[kMaxShBases], against[kMaxShBases], rgb[3] = {0.5f, 0.5f, 0.5f}, g[3];
  sh_basis(kDegree, view.unit, basis);
  float* own = rows.own();
#pragma unroll
  for (int k = 0; k < kBases; ++k)
    for (int c = 0; c < 3; ++c) rgb[c] += basis[k] * own[3 * k + c];
  for (int c = 0; c < 3; ++c) g[c] = rgb[c] > 0.f ? d_rgb[c] : 0.f;  // negative colours were clamped
#pragma unroll
  for (int k = 0; k < kBases; ++k) {
    against[k] = 0.f;
    for (int c = 0; c < 3; ++c) {
      against[k] += g[c] * own[3 * k + c];
      own[3 * k + c] = g[c] * basis[k];
    }
  }
  __syncwarp();
  if (float* out = job.out.sh)
    rows.each(gaussian, [&](int64_t of, int column, float number) { out[of * stride + column] = number; });
  if (gaussian == UINT32_MAX) return;
  view_direction_adjoint(camera, view, sh_direction_adjoint(kDegree, view.unit, against), d_mean, pose);
}

template <int kDegree>
__device__ __forceinline__ void color_backward(const Camera<float>& camera, const ProjectBackwardJob& job,
                                               uint32_t gaussian, const Vec3<float>& mean, const float* d_rgb,
                                               Rows<kColorRow<kDegree>>& rows, Vec3<float>& d_mean,
                                               PoseGradient<float>& pose) {
  if constexpr (kDegree == kGivenColors) {
    if (job.out.colors && gaussian != UINT32_MAX)
      for (int c = 0; c < 3; ++c) job.out.colors[3 * int64_t(gaussian) + c] = d_rgb[c];
  } else {
    sh_backward<kDegree>(camera, job, gaussian, mean, d_rgb, rows, d_mean, pose);
  }
}

}  // namespace splat::cuda

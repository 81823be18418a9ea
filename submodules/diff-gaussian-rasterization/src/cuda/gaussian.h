// One Gaussian per thread: its parameters in registers and its projection, the same in both directions.
#pragma once

#include "scalar.h"
// after scalar.h: they call its functions
#include "arrays.h"
#include "splat/covariance.h"
#include "splat/footprint.h"
#include "splat/projection.h"

namespace splat::cuda {

struct Gaussian {
  Vec3<float> mean, scale;
  Axes<float> axes;  // of the quaternion; unset, like the scale, where covariances are given
  Sym3<float> covariance;
  float opacity;
};

__device__ __forceinline__ Vec3<float> load_mean(const Gaussians<float>& in, int64_t i) {
  return {in.means[3 * i], in.means[3 * i + 1], in.means[3 * i + 2]};
}

__device__ __forceinline__ Gaussian load_gaussian(const Gaussians<float>& in, int64_t i) {
  Gaussian g;
  g.mean = load_mean(in, i);
  g.opacity = in.opacities[i];
  if (in.covariances) {
    const float* c = in.covariances + 6 * i;
    g.covariance = {c[0], c[1], c[2], c[3], c[4], c[5]};
    return g;
  }
  const float *q = in.quaternions + 4 * i, *s = in.scales + 3 * i;
  g.scale = {s[0], s[1], s[2]};
  g.axes = axes_of(Quaternion<float>{q[0], q[1], q[2], q[3]});
  g.covariance = covariance(g.axes, g.scale);
  return g;
}

// The camera at its pose [4, 4], which never leaves the device.
__device__ __forceinline__ Camera<float> posed(const Camera<float>& camera, const float* pose) {
  Camera<float> at = camera;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) at.rotation[3 * i + j] = pose[4 * i + j];
    at.translation[i] = pose[4 * i + 3];
  }
  return at;
}

// A covariance in the camera's pixels to those of a raster; for gradients, the way back is the same.
__device__ __forceinline__ Sym2<float> scaled(const Sym2<float>& c, const Raster<float>& r) {
  return {c.xx * (r.scale_x * r.scale_x), c.xy * (r.scale_x * r.scale_y), c.yy * (r.scale_y * r.scale_y)};
}

}  // namespace splat::cuda

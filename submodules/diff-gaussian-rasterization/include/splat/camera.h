// The pinhole camera with its pose. Pixels: the image corner is (0, 0), the first pixel's centre (0.5, 0.5).
#pragma once

#include "splat/math.h"

namespace splat {

constexpr double kFrustumMargin = 0.3;  // of half the field of view

template <class T>
struct Camera {
  int width, height;  // pixels
  T fx, fy, cx, cy;   // pixels
  T rotation[9];      // cam_from_world, row-major
  T translation[3];
  T near_plane;      // metres
  T low_pass;        // pixels^2
  bool antialiased;  // compensate opacity for the low-pass filter
  T u_min, u_max;    // x/z range in which the projection's Jacobian follows the ray
  T v_min, v_max;
};

// The ray limits: the image plus a margin on every side, measured from the principal point wherever it is.
template <class T>
inline void set_ray_limits(Camera<T>& camera) {
  const T half_width = camera.width / (2 * camera.fx), half_height = camera.height / (2 * camera.fy);
  const T left = -camera.cx / camera.fx, top = -camera.cy / camera.fy;
  const T margin = T(kFrustumMargin);
  camera.u_min = left - margin * half_width;
  camera.u_max = left + (2 + margin) * half_width;
  camera.v_min = top - margin * half_height;
  camera.v_max = top + (2 + margin) * half_height;
}

// dL/d(cam_from_world): twelve free entries, composed with a tangent by the caller.
template <class S>
struct PoseGradient {
  S rotation[9];
  S translation[3];
};

template <class S, class T>
SPLAT_HD Vec3<S> rotate(const T* r, const Vec3<S>& v) {
  return {r[0] * v.x + r[1] * v.y + r[2] * v.z, r[3] * v.x + r[4] * v.y + r[5] * v.z,
          r[6] * v.x + r[7] * v.y + r[8] * v.z};
}

template <class S, class T>
SPLAT_HD Vec3<S> rotate_back(const T* r, const Vec3<S>& v) {
  return {r[0] * v.x + r[3] * v.y + r[6] * v.z, r[1] * v.x + r[4] * v.y + r[7] * v.z,
          r[2] * v.x + r[5] * v.y + r[8] * v.z};
}

}  // namespace splat

// EWA projection of a Gaussian (Zwicker et al., "EWA Splatting", 2002), and its adjoint including the pose.
#pragma once

#include "splat/camera.h"

namespace splat {

template <class S>
struct Projection {
  Vec3<S> point;  // camera frame, metres
  S inverse_z;
  S ray_x, ray_y;      // x/z and y/z, clamped to the camera's ray limits
  S to_image[6];       // J R, 2x3 row-major: d(pixel)/d(world), J taken at the clamped ray
  Vec2<S> mean;        // pixels
  Sym2<S> covariance;  // pixels^2, before the low-pass filter
};

template <class S, class T>
SPLAT_HD Vec3<S> camera_point(const Camera<T>& camera, const Vec3<S>& mean) {
  const Vec3<S> p = rotate(camera.rotation, mean);
  return {p.x + camera.translation[0], p.y + camera.translation[1], p.z + camera.translation[2]};
}

// T V, a 2x3 times a symmetric 3x3.
template <class S>
SPLAT_HD void times_covariance(const S* t, const Sym3<S>& v, S* out) {
  for (int i = 0; i < 2; ++i) {
    const S a = t[3 * i], b = t[3 * i + 1], c = t[3 * i + 2];
    out[3 * i] = a * v.xx + b * v.xy + c * v.xz;
    out[3 * i + 1] = a * v.xy + b * v.yy + c * v.yz;
    out[3 * i + 2] = a * v.xz + b * v.yz + c * v.zz;
  }
}

// `point` must be in front of the camera.
template <class S, class T>
SPLAT_HD Projection<S> project(const Camera<T>& camera, const Vec3<S>& point, const Sym3<S>& covariance) {
  Projection<S> p;
  p.point = point;
  p.inverse_z = S(1) / point.z;
  const S u = point.x * p.inverse_z, v = point.y * p.inverse_z;
  p.mean = {camera.fx * u + camera.cx, camera.fy * v + camera.cy};
  p.ray_x = minimum(maximum(u, S(camera.u_min)), S(camera.u_max));
  p.ray_y = minimum(maximum(v, S(camera.v_min)), S(camera.v_max));
  const S jx = camera.fx * p.inverse_z, jy = camera.fy * p.inverse_z;
  const T* r = camera.rotation;
  for (int j = 0; j < 3; ++j) {
    p.to_image[j] = jx * (r[j] - p.ray_x * r[6 + j]);
    p.to_image[3 + j] = jy * (r[3 + j] - p.ray_y * r[6 + j]);
  }
  S tv[6];
  times_covariance(p.to_image, covariance, tv);
  const S* t = p.to_image;
  p.covariance = {tv[0] * t[0] + tv[1] * t[1] + tv[2] * t[2], tv[0] * t[3] + tv[1] * t[4] + tv[2] * t[5],
                  tv[3] * t[3] + tv[4] * t[4] + tv[5] * t[5]};
  return p;
}

// Adjoint by the Jacobian: T = J R with J = [[fx/z, 0, -fx u/z], [0, fy/z, -fy v/z]]. Adds to the pose's
// rotation and returns the derivative by the camera-frame point; a clamped ray passes none on.
template <class S, class T>
SPLAT_HD Vec3<S> jacobian_adjoint(const Camera<T>& camera, const Projection<S>& p, const S* d_to_image,
                                  PoseGradient<S>& pose) {
  const T* r = camera.rotation;
  const S jx = camera.fx * p.inverse_z, jy = camera.fy * p.inverse_z;
  S x_r0(0), x_r2(0), y_r1(0), y_r2(0);  // rows of d_to_image against rows of R
  for (int j = 0; j < 3; ++j) {
    const S dx = d_to_image[j], dy = d_to_image[3 + j];
    x_r0 = x_r0 + dx * r[j];
    x_r2 = x_r2 + dx * r[6 + j];
    y_r1 = y_r1 + dy * r[3 + j];
    y_r2 = y_r2 + dy * r[6 + j];
    pose.rotation[j] = pose.rotation[j] + jx * dx;
    pose.rotation[3 + j] = pose.rotation[3 + j] + jy * dy;
    pose.rotation[6 + j] = pose.rotation[6 + j] - (jx * p.ray_x * dx + jy * p.ray_y * dy);
  }
  const S d_jx = x_r0 - p.ray_x * x_r2, d_jy = y_r1 - p.ray_y * y_r2;
  const S u = p.point.x * p.inverse_z, v = p.point.y * p.inverse_z;
  const S d_u = select(u == p.ray_x, -jx * x_r2, S(0));
  const S d_v = select(v == p.ray_y, -jy * y_r2, S(0));
  const S d_z = -p.inverse_z * (d_jx * jx + d_jy * jy + d_u * u + d_v * v);
  return {d_u * p.inverse_z, d_v * p.inverse_z, d_z};
}

// Adjoint of camera_point() and project(): adds to d_mean and to the pose, returns d_covariance.
template <class S, class T>
SPLAT_HD Sym3<S> project_adjoint(const Camera<T>& camera, const Vec3<S>& mean, const Sym3<S>& covariance,
                                 const Projection<S>& p, const Vec2<S>& d_pixel, const Sym2<S>& d_image,
                                 const S& d_depth, Vec3<S>& d_mean, PoseGradient<S>& pose) {
  const S* t = p.to_image;
  // dT = 2 G T V and dV = T^T G T with G the symmetric 2x2 gradient.
  S gt[6], d_to_image[6];
  const S half_xy = S(T(0.5)) * d_image.xy;
  for (int j = 0; j < 3; ++j) {
    gt[j] = d_image.xx * t[j] + half_xy * t[3 + j];
    gt[3 + j] = half_xy * t[j] + d_image.yy * t[3 + j];
  }
  times_covariance(gt, covariance, d_to_image);
  for (int k = 0; k < 6; ++k) d_to_image[k] = d_to_image[k] + d_to_image[k];
  const S two(2);
  const Sym3<S> d_covariance = {t[0] * gt[0] + t[3] * gt[3],         two * (t[0] * gt[1] + t[3] * gt[4]),
                                two * (t[0] * gt[2] + t[3] * gt[5]), t[1] * gt[1] + t[4] * gt[4],
                                two * (t[1] * gt[2] + t[4] * gt[5]), t[2] * gt[2] + t[5] * gt[5]};
  Vec3<S> d_point = jacobian_adjoint(camera, p, d_to_image, pose);
  const S dx = d_pixel.x * camera.fx * p.inverse_z, dy = d_pixel.y * camera.fy * p.inverse_z;
  d_point.x = d_point.x + dx;
  d_point.y = d_point.y + dy;
  d_point.z = d_point.z + d_depth - (dx * p.point.x + dy * p.point.y) * p.inverse_z;
  const S dp[3] = {d_point.x, d_point.y, d_point.z}, m[3] = {mean.x, mean.y, mean.z};
  for (int i = 0; i < 3; ++i) {
    pose.translation[i] = pose.translation[i] + dp[i];
    for (int j = 0; j < 3; ++j) pose.rotation[3 * i + j] = pose.rotation[3 * i + j] + dp[i] * m[j];
  }
  const Vec3<S> back = rotate_back(camera.rotation, d_point);
  d_mean = {d_mean.x + back.x, d_mean.y + back.y, d_mean.z + back.z};
  return d_covariance;
}

}  // namespace splat

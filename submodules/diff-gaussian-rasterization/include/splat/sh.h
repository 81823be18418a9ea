// View-dependent colour by real spherical harmonics to degree 3, and its adjoint including the direction.
#pragma once

#include "splat/camera.h"

namespace splat {

constexpr int kMaxShBases = 16;

SPLAT_HD constexpr int sh_bases(int degree) { return (degree + 1) * (degree + 1); }

// Basis functions y[bases] at the unit direction d.
template <class S>
SPLAT_HD void sh_basis(int degree, const Vec3<S>& d, S* y) {
  y[0] = S(0.28209479177387814);
  if (degree < 1) return;
  const S c1(0.4886025119029199);
  y[1] = -c1 * d.y;
  y[2] = c1 * d.z;
  y[3] = -c1 * d.x;
  if (degree < 2) return;
  const S xx = d.x * d.x, yy = d.y * d.y, zz = d.z * d.z, c2(1.0925484305920792);
  y[4] = c2 * d.x * d.y;
  y[5] = -c2 * d.y * d.z;
  y[6] = S(0.31539156525252005) * (zz + zz - xx - yy);
  y[7] = -c2 * d.x * d.z;
  y[8] = S(0.5462742152960396) * (xx - yy);
  if (degree < 3) return;
  const S c3(0.5900435899266435), c4(0.4570457994644658), three(3), four(4);
  y[9] = -c3 * d.y * (three * xx - yy);
  y[10] = S(2.890611442640554) * d.x * d.y * d.z;
  y[11] = -c4 * d.y * (four * zz - xx - yy);
  y[12] = S(0.3731763325901154) * d.z * (zz + zz - three * (xx + yy));
  y[13] = -c4 * d.x * (four * zz - xx - yy);
  y[14] = S(1.445305721320277) * d.z * (xx - yy);
  y[15] = -c3 * d.x * (xx - three * yy);
}

// The derivative of sum_k q[k] y[k] by the direction.
template <class S>
SPLAT_HD Vec3<S> sh_direction_adjoint(int degree, const Vec3<S>& d, const S* q) {
  if (degree < 1) return {S(0), S(0), S(0)};
  const S c1(0.4886025119029199);
  Vec3<S> g = {-c1 * q[3], -c1 * q[1], c1 * q[2]};
  if (degree < 2) return g;
  const S x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z, two(2), four(4);
  const S q4 = S(1.0925484305920792) * q[4], q5 = S(1.0925484305920792) * q[5];
  const S q6 = S(0.31539156525252005) * q[6], q7 = S(1.0925484305920792) * q[7];
  const S q8 = S(0.5462742152960396) * q[8];
  g.x = g.x + q4 * y - two * q6 * x - q7 * z + two * q8 * x;
  g.y = g.y + q4 * x - q5 * z - two * q6 * y - two * q8 * y;
  g.z = g.z - q5 * y + four * q6 * z - q7 * x;
  if (degree < 3) return g;
  const S three(3), six(6), eight(8);
  const S q9 = S(0.5900435899266435) * q[9], q10 = S(2.890611442640554) * q[10];
  const S q11 = S(0.4570457994644658) * q[11], q12 = S(0.3731763325901154) * q[12];
  const S q13 = S(0.4570457994644658) * q[13], q14 = S(1.445305721320277) * q[14];
  const S q15 = S(0.5900435899266435) * q[15];
  g.x = g.x - six * q9 * x * y + q10 * y * z + two * q11 * x * y - six * q12 * x * z -
        q13 * (four * zz - three * xx - yy) + two * q14 * x * z - three * q15 * (xx - yy);
  g.y = g.y - three * q9 * (xx - yy) + q10 * x * z - q11 * (four * zz - xx - three * yy) - six * q12 * y * z +
        two * q13 * x * y - two * q14 * y * z + six * q15 * x * y;
  g.z = g.z + q10 * x * y - eight * q11 * y * z + three * q12 * (two * zz - xx - yy) - eight * q13 * x * z +
        q14 * (xx - yy);
  return g;
}

template <class S>
struct ViewDirection {
  Vec3<S> unit;  // from the camera centre to the Gaussian
  S inverse_distance;
};

// The camera centre is -R^T t, so the offset of a mean m from it is m + R^T t.
template <class S, class T>
SPLAT_HD ViewDirection<S> view_direction(const Camera<T>& camera, const Vec3<S>& mean) {
  const T *r = camera.rotation, *t = camera.translation;
  const Vec3<S> v = {mean.x + (r[0] * t[0] + r[3] * t[1] + r[6] * t[2]),
                     mean.y + (r[1] * t[0] + r[4] * t[1] + r[7] * t[2]),
                     mean.z + (r[2] * t[0] + r[5] * t[1] + r[8] * t[2])};
  const S inverse = S(1) / maximum(square_root(dot(v, v)), S(1e-12));
  return {{v.x * inverse, v.y * inverse, v.z * inverse}, inverse};
}

// Adds the gradient of the view direction to d_mean and, through the camera centre, to the pose.
template <class S, class T>
SPLAT_HD void view_direction_adjoint(const Camera<T>& camera, const ViewDirection<S>& view,
                                     const Vec3<S>& d_unit, Vec3<S>& d_mean, PoseGradient<S>& pose) {
  const S along = dot(view.unit, d_unit);
  const Vec3<S> dv = {(d_unit.x - along * view.unit.x) * view.inverse_distance,
                      (d_unit.y - along * view.unit.y) * view.inverse_distance,
                      (d_unit.z - along * view.unit.z) * view.inverse_distance};
  d_mean = {d_mean.x + dv.x, d_mean.y + dv.y, d_mean.z + dv.z};
  const Vec3<S> dt = rotate(camera.rotation, dv);
  const S d_translation[3] = {dt.x, dt.y, dt.z}, d_offset[3] = {dv.x, dv.y, dv.z};
  for (int i = 0; i < 3; ++i) {
    pose.translation[i] = pose.translation[i] + d_translation[i];
    for (int j = 0; j < 3; ++j)
      pose.rotation[3 * i + j] = pose.rotation[3 * i + j] + camera.translation[i] * d_offset[j];
  }
}

}  // namespace splat

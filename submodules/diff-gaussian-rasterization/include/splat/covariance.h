// The covariance R S^2 R^T of a Gaussian from its quaternion and scales, and its adjoint.
#pragma once

#include "splat/math.h"

namespace splat {

template <class S>
struct Axes {
  S rotation[9];       // row-major, world_from_gaussian
  Quaternion<S> unit;  // the normalised quaternion
  S inverse_norm;
};

// A zero quaternion becomes the identity, as in torch.nn.functional.normalize with its eps.
template <class S>
SPLAT_HD Axes<S> axes_of(const Quaternion<S>& q) {
  const S norm = square_root(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z);
  const S inverse = S(1) / maximum(norm, S(1e-12));
  const S w = q.w * inverse, x = q.x * inverse, y = q.y * inverse, z = q.z * inverse;
  const S two(2), one(1);
  return {{one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y), two * (x * y + w * z),
           one - two * (x * x + z * z), two * (y * z - w * x), two * (x * z - w * y), two * (y * z + w * x),
           one - two * (x * x + y * y)},
          {w, x, y, z},
          inverse};
}

template <class S>
SPLAT_HD Sym3<S> covariance(const Axes<S>& axes, const Vec3<S>& scale) {
  const S* r = axes.rotation;
  const S sx = scale.x * scale.x, sy = scale.y * scale.y, sz = scale.z * scale.z;
  return {r[0] * r[0] * sx + r[1] * r[1] * sy + r[2] * r[2] * sz,
          r[0] * r[3] * sx + r[1] * r[4] * sy + r[2] * r[5] * sz,
          r[0] * r[6] * sx + r[1] * r[7] * sy + r[2] * r[8] * sz,
          r[3] * r[3] * sx + r[4] * r[4] * sy + r[5] * r[5] * sz,
          r[3] * r[6] * sx + r[4] * r[7] * sy + r[5] * r[8] * sz,
          r[6] * r[6] * sx + r[7] * r[7] * sy + r[8] * r[8] * sz};
}

// With M = R diag(s) and V = M M^T: dM = (dV + dV^T) M, ds_j = sum_i R_ij dM_ij, dR_ij = dM_ij s_j.
template <class S>
SPLAT_HD void covariance_adjoint(const Axes<S>& axes, const Vec3<S>& scale, const Sym3<S>& d_covariance,
                                 Quaternion<S>& d_quaternion, Vec3<S>& d_scale) {
  const S* r = axes.rotation;
  const Sym3<S>& g = d_covariance;
  const S two(2);
  const S full[9] = {two * g.xx, g.xy, g.xz, g.xy, two * g.yy, g.yz, g.xz, g.yz, two * g.zz};
  const S s[3] = {scale.x, scale.y, scale.z};
  S ds[3], dr[9];
  for (int j = 0; j < 3; ++j) {
    ds[j] = S(0);
    for (int i = 0; i < 3; ++i) {
      const S unscaled = full[3 * i] * r[j] + full[3 * i + 1] * r[3 + j] + full[3 * i + 2] * r[6 + j];
      ds[j] = ds[j] + r[3 * i + j] * unscaled * s[j];
      dr[3 * i + j] = unscaled * s[j] * s[j];
    }
  }
  d_scale = {ds[0], ds[1], ds[2]};
  const S w = axes.unit.w, x = axes.unit.x, y = axes.unit.y, z = axes.unit.z;
  const S dw = two * (x * (dr[7] - dr[5]) + y * (dr[2] - dr[6]) + z * (dr[3] - dr[1]));
  const S dx =
      two * (w * (dr[7] - dr[5]) + y * (dr[1] + dr[3]) + z * (dr[2] + dr[6]) - two * x * (dr[4] + dr[8]));
  const S dy =
      two * (w * (dr[2] - dr[6]) + x * (dr[1] + dr[3]) + z * (dr[5] + dr[7]) - two * y * (dr[0] + dr[8]));
  const S dz =
      two * (w * (dr[3] - dr[1]) + x * (dr[2] + dr[6]) + y * (dr[5] + dr[7]) - two * z * (dr[0] + dr[4]));
  const S radial = w * dw + x * dx + y * dy + z * dz;
  d_quaternion = {(dw - w * radial) * axes.inverse_norm, (dx - x * radial) * axes.inverse_norm,
                  (dy - y * radial) * axes.inverse_norm, (dz - z * radial) * axes.inverse_norm};
}

}  // namespace splat

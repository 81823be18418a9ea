// Gaussians, as many as a vector has lanes: their parameters, and whether they may be in view. Compiled once
// per instruction set.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "lane_rows.h"
#include "splat/covariance.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

template <class T>
struct LaneGaussian {
  Vec3<Vec<T>> mean;
  Quaternion<Vec<T>> quaternion;
  Vec3<Vec<T>> scale;
  Axes<Vec<T>> axes;
  Sym3<Vec<T>> covariance;
  Vec<T> opacity;
};

// All but the axes and, unless it is given, the covariance.
template <class T>
SPLAT_LANE LaneGaussian<T> load_parameters(const Gaussians<T>& in, const LaneLoader<T>& at) {
  LaneGaussian<T> g;
  Vec<T> c[6];
  at.columns(in.means, 3, 3, c);
  g.mean = {c[0], c[1], c[2]};
  g.opacity = at(in.opacities, 1, 0);
  if (in.covariances) {
    at.columns(in.covariances, 6, 6, c);
    g.covariance = {c[0], c[1], c[2], c[3], c[4], c[5]};
    return g;
  }
  at.columns(in.quaternions, 4, 4, c);
  g.quaternion = {c[0], c[1], c[2], c[3]};
  at.columns(in.scales, 3, 3, c);
  g.scale = {c[0], c[1], c[2]};
  return g;
}

template <class T>
SPLAT_LANE void set_covariance(const Gaussians<T>& in, LaneGaussian<T>& g) {
  if (in.covariances) return;
  g.axes = axes_of(g.quaternion);
  g.covariance = covariance(g.axes, g.scale);
}

template <class T>
SPLAT_LANE LaneGaussian<T> load_gaussian(const Gaussians<T>& in, const LaneLoader<T>& at) {
  LaneGaussian<T> g = load_parameters(in, at);
  set_covariance(in, g);
  return g;
}

// A bound on how much a Gaussian's standard deviation grows on its way into the image, for lanes_in_view():
// the longest row of the rotation, which need not be one.
template <class T>
T longest_row(const Camera<T>& camera) {
  T longest(0);
  for (int row = 0; row < 3; ++row) {
    const T* r = camera.rotation + 3 * row;
    longest = std::max(longest, r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
  }
  return std::sqrt(longest);
}

// Which lanes may be visible in a raster: all but those whose ellipse, by a bound that takes neither its
// shape nor its opacity into account, is beside the image. Most of a map is beside it, and far from exact
// tests: of a vector of such Gaussians nothing else is computed.
template <class T>
SPLAT_LANE Mask<T> lanes_in_view(const ProjectJob<T>& job, const LaneGaussian<T>& g, T longest) {
  using V = Vec<T>;
  constexpr T kReach = T(3.34);  // more than the root of reach_squared() of an opacity of 1
  const Camera<T>& camera = job.camera;
  const V zero(T(0)), one(T(1));
  const Vec3<V> point = camera_point(camera, g.mean);
  const Mask<T> in_front = point.z >= V(camera.near_plane);
  const V inverse = one / select(in_front, point.z, one), u = point.x * inverse, v = point.y * inverse;
  const V size = maximum(maximum(maximum(g.scale.x, -g.scale.x), maximum(g.scale.y, -g.scale.y)),
                         maximum(g.scale.z, -g.scale.z)) *
                 inverse * V(kReach * longest);
  const V ray_x = minimum(maximum(u, V(camera.u_min)), V(camera.u_max));
  const V ray_y = minimum(maximum(v, V(camera.v_min)), V(camera.v_max));
  const V wide_x = size * (one + maximum(ray_x, -ray_x)), wide_y = size * (one + maximum(ray_y, -ray_y));
  Mask<T> possible = g.opacity > one;
  for (int r = 0; r < job.rasters; ++r) {
    const Raster<T>& raster = job.raster[r];
    // Relative slack, against rounding: coordinates far from the image are large.
    const V blur(kReach * std::sqrt(camera.low_pass) + T(1)), fx(camera.fx * raster.scale_x);
    const V fy(camera.fy * raster.scale_y), slack(T(1e-3));
    const V x = fx * u + V(camera.cx * raster.scale_x), y = fy * v + V(camera.cy * raster.scale_y);
    const V reach_x = fx * wide_x + blur + slack * maximum(x, -x);
    const V reach_y = fy * wide_y + blur + slack * maximum(y, -y);
    const Mask<T> beside = (x + reach_x < zero) | (x - reach_x > V(T(raster.width))) | (y + reach_y < zero) |
                           (y - reach_y > V(T(raster.height)));
    possible = possible | !beside;
  }
  return in_front & possible;
}

// What project_chunk() writes of Gaussians that are not visible: their splats are never read.
template <class T>
void hide(const ProjectJob<T>& job, int64_t i, int lanes) {
  for (int r = 0; r < job.rasters; ++r) {
    const TileBits& tiles = job.tiles[r];
    for (int word = 0; word < tiles.words; ++word)
      std::fill_n(tiles.bits + word * job.in.count + i, lanes, uint32_t(0));
  }
  std::fill_n(job.depths + i, lanes, T(-1));
  std::fill_n(job.radii + i, lanes, int32_t(0));
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

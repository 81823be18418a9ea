// Projection of Gaussians and its adjoint, several Gaussians at a time. Compiled once per instruction set.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels_isa.h"
#include "lane_gaussian.h"
#include "lane_tiles.h"
#include "simd.h"
#include "intersection_gradients.h"
#include "splat/covariance.h"
#include "splat/projection.h"
#include "splat/sh.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

template <class T>
SPLAT_LANE Mask<T> is_finite(Vec<T> sum_of_inputs) {
  const Vec<T> largest(std::numeric_limits<T>::max());
  return (sum_of_inputs <= largest) & (sum_of_inputs >= -largest);
}

template <class T>
SPLAT_LANE Vec<T> geometry_sum(const Gaussians<T>& in, const LaneGaussian<T>& g) {
  const Vec<T> sum = g.mean.x + g.mean.y + g.mean.z + g.opacity;
  const Sym3<Vec<T>>& c = g.covariance;
  if (in.covariances) return sum + c.xx + c.xy + c.xz + c.yy + c.yz + c.zz;
  return sum + g.quaternion.w + g.quaternion.x + g.quaternion.y + g.quaternion.z + g.scale.x + g.scale.y +
         g.scale.z;
}

// The Gaussian in the camera, its projected mean in the camera's pixels; lanes behind are held at depth 1.
template <class T>
SPLAT_LANE Projection<Vec<T>> project_lanes(const Camera<T>& camera, const Gaussians<T>& in,
                                            const LaneLoader<T>& at, const LaneGaussian<T>& g,
                                            Mask<T>& in_front) {
  Vec3<Vec<T>> point = camera_point(camera, g.mean);
  in_front = point.z >= Vec<T>(camera.near_plane);
  point.z = select(in_front, point.z, Vec<T>(T(1)));
  Projection<Vec<T>> p = project(camera, point, g.covariance);
  if (in.offsets) {
    p.mean.x = p.mean.x + at(in.offsets, 2, 0);
    p.mean.y = p.mean.y + at(in.offsets, 2, 1);
  }
  return p;
}

template <class T>
SPLAT_LANE Sym2<Vec<T>> scaled(const Sym2<Vec<T>>& c, const Raster<T>& r) {
  return {c.xx * (r.scale_x * r.scale_x), c.xy * (r.scale_x * r.scale_y), c.yy * (r.scale_y * r.scale_y)};
}

// 2 ln(255 opacity): the squared Mahalanobis radius at which alpha falls to 1/255.
template <class T>
SPLAT_LANE Vec<T> reach_squared(Vec<T> opacity) {
  using V = Vec<T>;
  const Mask<T> seen = opacity > V(T(0));
  return select(seen, V(T(2)) * logarithm(select(seen, opacity * V(T(255)), V(T(1)))), V(T(-1)));
}

// The colour of the lanes' Gaussians, before negative values are clamped.
template <class T>
SPLAT_LANE void lane_colors(const Camera<T>& camera, const Gaussians<T>& in, const LaneLoader<T>& at,
                            const Vec3<Vec<T>>& mean, Vec<T>* rgb) {
  if (in.colors) {
    at.columns(in.colors, 3, 3, rgb);
    return;
  }
  const int bases = sh_bases(in.sh_degree);
  Vec<T> basis[kMaxShBases], sh[3 * kMaxShBases];
  sh_basis(in.sh_degree, view_direction(camera, mean).unit, basis);
  at.columns(in.sh, 3 * in.sh_bases, 3 * bases, sh);
  for (int c = 0; c < 3; ++c) rgb[c] = Vec<T>(T(0.5));
  for (int k = 0; k < bases; ++k)
    for (int c = 0; c < 3; ++c) rgb[c] = rgb[c] + basis[k] * sh[3 * k + c];
}

// The splats of one raster for the lanes' Gaussians, colour excluded; `plain_reach_sq` is reach_squared() of
// their own opacity. Returns which are visible.
template <class T>
SPLAT_LANE Mask<T> lane_splats(const ProjectJob<T>& job, const Raster<T>& raster, const LaneGaussian<T>& g,
                               const Projection<Vec<T>>& p, Mask<T> in_front, Vec<T> plain_reach_sq,
                               Vec<T>* fields, Vec<T>& radius) {
  using V = Vec<T>;
  const V zero(T(0)), one(T(1));
  const Footprint<V> f = footprint(scaled(p.covariance, raster), job.camera.low_pass, job.camera.antialiased);
  const V opacity = g.opacity * f.compensation;
  const V reach_sq = job.camera.antialiased ? reach_squared(opacity) : plain_reach_sq;
  const V reach = square_root(maximum(reach_sq, zero));
  const V x = p.mean.x * raster.scale_x, y = p.mean.y * raster.scale_y;
  const V extent_x = reach * square_root(f.filtered.xx), extent_y = reach * square_root(f.filtered.yy);
  Mask<T> visible = in_front & (reach_sq >= zero) & (f.det > zero);
  visible = visible & (x + extent_x >= V(T(0.5))) & (x - extent_x <= V(T(raster.width) - T(0.5)));
  visible = visible & (y + extent_y >= V(T(0.5))) & (y - extent_y <= V(T(raster.height) - T(0.5)));
  visible = visible & is_finite(f.conic.xx + f.conic.xy + f.conic.yy + x + y);
  const V middle = (f.filtered.xx + f.filtered.yy) * T(0.5);
  radius = reach * square_root(middle + square_root(maximum(middle * middle - f.det, zero)));
  const V shown_x = select(visible, extent_x, -one);
  const V values[] = {x,
                      y,
                      f.conic.xx,
                      f.conic.xy,
                      f.conic.yy,
                      opacity,
                      p.point.z,
                      zero,
                      zero,
                      zero,
                      shown_x,
                      extent_y,
                      -f.conic.xy / f.conic.xx,
                      reach / square_root(f.conic.xx),
                      -f.conic.xy / f.conic.yy,
                      reach / square_root(f.conic.yy)};
  for (int k = 0; k < 16; ++k) fields[k] = values[k];
  return visible;
}

template <class T>
SPLAT_LANE void store_splats(const Vec<T>* fields, Splat<T>* splats, int lanes) {
#if defined(__AVX512F__)
  if constexpr (kTransposes<T>)
    if (lanes == Vec<T>::kCount) {
      for (int k = 0; k < 16; k += 4) store_quads(fields + k, reinterpret_cast<T*>(splats) + k, 16);
      return;
    }
#endif
  T columns[16][Vec<T>::kCount];
  for (int k = 0; k < 16; ++k) fields[k].store(columns[k]);
  for (int i = 0; i < lanes; ++i) {
    T* out = reinterpret_cast<T*>(splats + i);
    for (int k = 0; k < 16; ++k) out[k] = columns[k][i];
  }
}

// Asks for the lines that the splats of the next vectors will be written to: stores that miss wait for each
// other, these requests do not.
template <class T>
SPLAT_LANE void prefetch_splats(const ProjectJob<T>& job, int64_t i, int64_t end) {
  constexpr int64_t kAhead = 2 * Vec<T>::kCount;
  for (int r = 0; r < job.rasters; ++r)
    for (int64_t k = i + kAhead; k < std::min(i + kAhead + Vec<T>::kCount, end); ++k)
      __builtin_prefetch(job.splats[r] + k, 1);
}

// The tiles that the lanes' bounding boxes touch.
template <class T>
SPLAT_LANE void lane_tiles(const TileBits& tiles, const Raster<T>& raster, const Vec<T>* fields,
                           Mask<T> visible, int64_t count, int64_t i, int lanes) {
  using V = Vec<T>;
  const V x = fields[0], y = fields[1], slack(T(0.01));
  const V extent_x = fields[10] + slack, extent_y = fields[11] + slack;
  const LaneRange<T> columns = tiles_between(x - extent_x, x + extent_x, visible, raster.tiles_x);
  const LaneRange<T> rows = tiles_between(y - extent_y, y + extent_y, visible, raster.tiles_y);
  for (int word = 0; word < tiles.words; ++word)
    store_tile_bits(tiles, word, columns, rows, tiles.bits + word * count + i, lanes);
}

template <class T>
int64_t project_chunk(const ProjectJob<T>& job, int64_t begin, int64_t end) {
  using V = Vec<T>;
  const int color_field = 7;
  // Passes with screen offsets, as in training, do not cull: `lanes_in_view` does not know the offsets.
  const bool culls = !job.in.covariances && !job.in.offsets;
  const T longest = longest_row(job.camera);
  int64_t invalid = -1;
  for (int64_t i = begin; i < end; i += V::kCount) {
    const int lanes = int(end - i < V::kCount ? end - i : V::kCount);
    const LaneLoader<T> at{i, end - 1};
    LaneGaussian<T> g = load_parameters(job.in, at);
    Mask<T> finite = is_finite(geometry_sum(job.in, g));
    // Vectors with a non-finite value are not skipped, so that the check below reports them.
    if (culls && !any(!finite) && !any(lanes_in_view(job, g, longest))) {
      hide(job, i, lanes);
      continue;
    }
    prefetch_splats(job, i, end);
    set_covariance(job.in, g);
    Mask<T> in_front;
    const Projection<V> p = project_lanes(job.camera, job.in, at, g, in_front);
    if (job.in.offsets) finite = finite & is_finite(at(job.in.offsets, 2, 0) + at(job.in.offsets, 2, 1));
    V fields[2][16], radius[2];
    Mask<T> visible[2];
    const V reach_sq = job.camera.antialiased ? V(T(0)) : reach_squared(g.opacity);
    for (int r = 0; r < job.rasters; ++r)
      visible[r] = lane_splats(job, job.raster[r], g, p, in_front, reach_sq, fields[r], radius[r]);
    for (int r = 0; r < job.rasters; ++r)
      if (job.tiles[r].words)
        lane_tiles(job.tiles[r], job.raster[r], fields[r], visible[r], job.in.count, i, lanes);
    const Mask<T> anywhere = job.rasters == 2 ? visible[0] | visible[1] : visible[0];
    if (any(visible[0])) {
      V* rgb = fields[0] + color_field;
      lane_colors(job.camera, job.in, at, g.mean, rgb);
      finite = finite & (is_finite(rgb[0] + rgb[1] + rgb[2]) | !visible[0]);
      for (int c = 0; c < 3 && job.in.sh; ++c) rgb[c] = maximum(rgb[c], V(T(0)));
    }
    for (int r = 0; r < job.rasters; ++r) store_splats(fields[r], job.splats[r] + i, lanes);
    T depth[V::kCount], pixels[V::kCount];
    select(anywhere, p.point.z, V(T(-1))).store(depth);
    select(visible[0], minimum(radius[0], V(T(1e9))), V(T(0))).store(pixels);
    const uint32_t shown = bits(visible[0]), good = bits(finite);
    for (int l = 0; l < lanes; ++l) {
      job.depths[i + l] = depth[l];
      job.radii[i + l] = (shown >> l & 1) ? int32_t(pixels[l] > 1 ? std::ceil(pixels[l]) : T(1)) : 0;
      if (invalid < 0 && !(good >> l & 1)) invalid = i + l;
    }
  }
  return invalid;
}

template <class T>
SPLAT_LANE Vec<T> keep(uint32_t seen, Vec<T> values) {
  T lane[Vec<T>::kCount];
  for (int l = 0; l < Vec<T>::kCount; ++l) lane[l] = T(seen >> l & 1);
  return select(Vec<T>::load(lane) > Vec<T>(T(0)), values, Vec<T>(T(0)));
}

// From the moments of one raster to the gradients by projected mean, covariance and opacity.
template <class T>
SPLAT_LANE void add_screen_gradient(const ProjectBackwardJob<T>& job, const Raster<T>& raster,
                                    const Projection<Vec<T>>& p, Vec<T> opacity, const Vec<T>* sums,
                                    Vec2<Vec<T>>& d_mean, Sym2<Vec<T>>& d_covariance, Vec<T>& d_opacity) {
  using V = Vec<T>;
  const Sym2<V> raw = scaled(p.covariance, raster);
  const Footprint<V> f = footprint(raw, job.camera.low_pass, job.camera.antialiased);
  const V dx = -(f.conic.xx * sums[kHx] + f.conic.xy * sums[kHy]);
  const V dy = -(f.conic.xy * sums[kHx] + f.conic.yy * sums[kHy]);
  const Sym2<V> d_conic = {sums[kHxx] * T(0.5), sums[kHxy], sums[kHyy] * T(0.5)};
  const V effective = opacity * f.compensation;
  V by_opacity = select(effective > V(T(0)), -sums[kH] / effective, V(T(0)));
  const Sym2<V> d_raw =
      footprint_adjoint(raw, f, job.camera.low_pass, job.camera.antialiased, opacity, d_conic, by_opacity);
  d_mean = {d_mean.x + dx * raster.scale_x, d_mean.y + dy * raster.scale_y};
  const Sym2<V> back = scaled(d_raw, raster);
  d_covariance = {d_covariance.xx + back.xx, d_covariance.xy + back.xy, d_covariance.yy + back.yy};
  d_opacity = d_opacity + by_opacity;
}

template <class T>
SPLAT_LANE void color_backward(const ProjectBackwardJob<T>& job, const LaneLoader<T>& at, int lanes,
                               uint32_t seen, const Vec3<Vec<T>>& mean, const Vec<T>* d_rgb,
                               Vec3<Vec<T>>& d_mean, PoseGradient<Vec<T>>& pose) {
  using V = Vec<T>;
  const Gaussians<T>& in = job.in;
  if (in.colors) {
    store_columns(job.out.colors, 3, 3, at.begin, lanes, seen, d_rgb);
    return;
  }
  const ViewDirection<V> view = view_direction(job.camera, mean);
  const int bases = sh_bases(in.sh_degree), stride = 3 * in.sh_bases;
  V rgb[3], basis[kMaxShBases], against[kMaxShBases], sh[3 * kMaxShBases], d_sh[3 * kMaxShBases];
  sh_basis(in.sh_degree, view.unit, basis);
  at.columns(in.sh, stride, 3 * bases, sh);
  for (int c = 0; c < 3; ++c) rgb[c] = V(T(0.5));
  for (int k = 0; k < bases; ++k)
    for (int c = 0; c < 3; ++c) rgb[c] = rgb[c] + basis[k] * sh[3 * k + c];
  V g[3];
  for (int c = 0; c < 3; ++c) g[c] = select(rgb[c] > V(T(0)), d_rgb[c], V(T(0)));
  for (int k = 0; k < bases; ++k) {
    against[k] = V(T(0));
    for (int c = 0; c < 3; ++c) {
      against[k] = against[k] + g[c] * sh[3 * k + c];
      d_sh[3 * k + c] = g[c] * basis[k];
    }
  }
  store_columns(job.out.sh, stride, 3 * bases, at.begin, lanes, seen, d_sh);
  view_direction_adjoint(job.camera, view, sh_direction_adjoint(in.sh_degree, view.unit, against), d_mean,
                         pose);
}

template <class T>
SPLAT_LANE void store_gradients(const ProjectBackwardJob<T>& job, int64_t i, int lanes, uint32_t seen,
                                const LaneGaussian<T>& g, const Vec3<Vec<T>>& d_mean,
                                const Sym3<Vec<T>>& d_covariance, Vec<T> d_opacity,
                                const Vec2<Vec<T>>& d_offset) {
  using V = Vec<T>;
  const GaussianGradients<T>& out = job.out;
  const V mean[] = {d_mean.x, d_mean.y, d_mean.z}, offset[] = {d_offset.x, d_offset.y};
  store_columns(out.means, 3, 3, i, lanes, seen, mean);
  store_columns(out.opacities, 1, 1, i, lanes, seen, &d_opacity);
  store_columns(out.offsets, 2, 2, i, lanes, seen, offset);
  if (job.in.covariances) {
    const V packed[] = {d_covariance.xx, d_covariance.xy, d_covariance.xz,
                        d_covariance.yy, d_covariance.yz, d_covariance.zz};
    store_columns(out.covariances, 6, 6, i, lanes, seen, packed);
    return;
  }
  if (!out.quaternions && !out.scales) return;
  Quaternion<V> dq;
  Vec3<V> ds;
  covariance_adjoint(g.axes, g.scale, d_covariance, dq, ds);
  const V quaternion[] = {dq.w, dq.x, dq.y, dq.z}, scale[] = {ds.x, ds.y, ds.z};
  store_columns(out.quaternions, 4, 4, i, lanes, seen, quaternion);
  store_columns(out.scales, 3, 3, i, lanes, seen, scale);
}

template <class T>
void project_backward_chunk(const ProjectBackwardJob<T>& job, int64_t begin, int64_t end, double* pose_sum) {
  using V = Vec<T>;
  if (job.feature_raster >= 0) sum_feature_gradients(job, begin, end);
  PoseGradient<V> pose = {};
  for (int64_t i = begin; i < end; i += V::kCount) {
    const int lanes = int(end - i < V::kCount ? end - i : V::kCount);
    const uint32_t seen = seen_lanes(job, i, lanes);
    if (!seen) continue;
    const LaneLoader<T> at{i, end - 1};
    const LaneGaussian<T> g = load_gaussian(job.in, at);
    Mask<T> in_front;
    const Projection<V> p = project_lanes(job.camera, job.in, at, g, in_front);
    const V zero(T(0));
    Vec2<V> d_pixel = {zero, zero};
    Sym2<V> d_image = {zero, zero, zero};
    V d_opacity = zero, d_depth = zero;
    Vec3<V> d_mean = {zero, zero, zero};
    PoseGradient<V> own = {};
    for (int r = 0; r < job.rasters; ++r) {
      if (!job.gradients[r]) continue;
      V sums[kGradients];
      sum_gradients(job, r, i, lanes, sums);
      add_screen_gradient(job, job.raster[r], p, g.opacity, sums, d_pixel, d_image, d_opacity);
      if (r > 0) continue;
      d_depth = sums[kDDepth];
      color_backward(job, at, lanes, seen, g.mean, sums + kDRed, d_mean, own);
    }
    const Sym3<V> d_covariance =
        project_adjoint(job.camera, g.mean, g.covariance, p, d_pixel, d_image, d_depth, d_mean, own);
    for (int k = 0; k < 9; ++k) pose.rotation[k] = pose.rotation[k] + keep(seen, own.rotation[k]);
    for (int k = 0; k < 3; ++k) pose.translation[k] = pose.translation[k] + keep(seen, own.translation[k]);
    store_gradients(job, i, lanes, seen, g, d_mean, d_covariance, d_opacity, d_pixel);
  }
  for (int k = 0; k < 9; ++k) pose_sum[k] = sum(pose.rotation[k]);
  for (int k = 0; k < 3; ++k) pose_sum[9 + k] = sum(pose.translation[k]);
}

}  // namespace

int64_t project_float(const ProjectJob<float>& job, int64_t begin, int64_t end) {
  return project_chunk(job, begin, end);
}
int64_t project_double(const ProjectJob<double>& job, int64_t begin, int64_t end) {
  return project_chunk(job, begin, end);
}
void project_backward_float(const ProjectBackwardJob<float>& job, int64_t begin, int64_t end, double* pose) {
  project_backward_chunk(job, begin, end, pose);
}
void project_backward_double(const ProjectBackwardJob<double>& job, int64_t begin, int64_t end,
                             double* pose) {
  project_backward_chunk(job, begin, end, pose);
}

}  // namespace SPLAT_ISA
}  // namespace splat

// Samples of an alignment, several at a time. Compiled once per instruction set.
#include "alignment_kernel.h"

#include <limits>
#include <type_traits>

#include "partial.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

using splat::select;  // of one number; those of vectors are found by their arguments
using splat::square_root;

constexpr double kNearest = 1e-2;  // metres; a sample that comes closer has left the view

// Samples in the query camera, and where they fall.
template <class S, class M>
struct Projected {
  Vec3<S> point;
  S u, v;          // pixels minus one half: (0, 0) is the centre of the first one
  S du_dx, dv_dy;  // fx / z, fy / z
  S inverse;       // 1 / z
  M inside;        // all four neighbours are in the image, and the sample in front of the camera
};

template <class S, class T>
SPLAT_LANE auto project(const AlignmentJob<T>& job, S x, S y, S z) {
  const T* r = job.rotation;
  const T* t = job.translation;
  const Vec3<S> point = {S(r[0]) * x + S(r[1]) * y + S(r[2]) * z + S(t[0]),
                         S(r[3]) * x + S(r[4]) * y + S(r[5]) * z + S(t[1]),
                         S(r[6]) * x + S(r[7]) * y + S(r[8]) * z + S(t[2])};
  const auto front = point.z > S(kNearest);
  const S inverse = S(T(1)) / select(front, point.z, S(T(1)));
  const S du_dx = S(job.fx) * inverse, dv_dy = S(job.fy) * inverse;
  const S u = point.x * du_dx + S(job.cx - T(0.5)), v = point.y * dv_dy + S(job.cy - T(0.5));
  const auto inside =
      front & (u >= S(T(0))) & (v >= S(T(0))) & (u < S(T(job.width - 1))) & (v < S(T(job.height - 1)));
  return Projected<S, std::remove_const_t<decltype(inside)>>{point, u, v, du_dx, dv_dy, inverse, inside};
}

// A bilinear interpolant and its gradient per pixel.
template <class T>
struct Reading {
  Vec<T> value, dx, dy, least;  // least: of the four neighbours
};

template <class T>
SPLAT_LANE Reading<T> read(const AlignmentJob<T>& job, Mask<T> inside, Vec<T> u, Vec<T> v) {
  using V = Vec<T>;
  T us[V::kCount], vs[V::kCount], x[V::kCount], y[V::kCount];
  T a[V::kCount], b[V::kCount], c[V::kCount], d[V::kCount];
  select(inside, u, V(T(0))).store(us);
  select(inside, v, V(T(0))).store(vs);
  for (int i = 0; i < V::kCount; ++i) {
    const int column = int(us[i]), row = int(vs[i]);
    const T* p = job.image + int64_t(row) * job.width + column;
    x[i] = us[i] - T(column);
    y[i] = vs[i] - T(row);
    a[i] = p[0];
    b[i] = p[1];
    c[i] = p[job.width];
    d[i] = p[job.width + 1];
  }
  const V va = V::load(a), vb = V::load(b), vc = V::load(c), vd = V::load(d);
  const V top = vb - va, twist = vd - vc - top, left = vc - va, fx = V::load(x), fy = V::load(y);
  const V dy = left + fx * twist;
  return {va + fx * top + fy * dy, top + fy * twist, dy, minimum(minimum(va, vb), minimum(vc, vd))};
}

// Geman and McClure's robust cost, 2 s / (1 + s) with s = r^2 / (4 sigma^2): r^2 / (2 sigma^2) for small r,
// at most 2. The weight is such that the cost's derivative is weight * r.
template <class S>
struct Robust {
  S cost, weight;
};

template <class S, class T>
SPLAT_LANE Robust<S> robust(S square, T sigma) {
  const T precision = T(1) / (sigma * sigma);
  const S s = square * S(precision / 4);
  const S tail = S(T(1)) / (S(T(1)) + s);
  return {S(T(2)) * s * tail, S(precision) * tail * tail};
}

// Adds one residual per lane, its derivatives `j` by the unknowns, to sums in the layout of AlignmentSum.
template <int kCount, class V>
SPLAT_LANE void add(V* sums, const V* j, V weight, V residual) {
  int index = 0;
  for (int row = 0; row < kCount; ++row) {
    const V weighted = weight * j[row];
    for (int column = row; column < kCount; ++column) {
      sums[index] = sums[index] + weighted * j[column];
      ++index;
    }
    index += kUnknowns - kCount;  // the rest of the row belongs to unknowns that this residual does not know
    sums[kGradientSum + row] = sums[kGradientSum + row] + weighted * residual;
  }
}

// Derivatives by the pose from those by the point.
template <class S>
SPLAT_LANE void by_pose(const Vec3<S>& point, const Vec3<S>& d, S* j) {
  j[0] = d.x;
  j[1] = d.y;
  j[2] = d.z;
  j[3] = point.y * d.z - point.z * d.y;
  j[4] = point.z * d.x - point.x * d.z;
  j[5] = point.x * d.y - point.y * d.x;
}

// Residuals that are one number per sample.
template <Residual kResidual, class T>
void scalar_chunk(const AlignmentJob<T>& job, int64_t begin, int64_t end, double* out) {
  using V = Vec<T>;
  constexpr bool kDepth = kResidual == Residual::kInverseDepth;
  constexpr int kCount = kDepth ? 6 : kUnknowns;
  V sums[kAlignmentSums];
  for (V& sum : sums) sum = V(T(0));
  for (int64_t i = begin; i < end; i += V::kCount) {
    const int left = int(end - i);  // a chunk's
    const T* p = job.points + i;
    const auto at = project(job, load_first(p, left), load_first(p + job.count, left),
                            load_first(p + 2 * job.count, left));
    const Mask<T> real = V::indices() < V(T(left));
    Mask<T> seen = at.inside & real;
    const Reading<T> there = read(job, seen, at.u, at.v);
    V reference, residual;
    if constexpr (kDepth) {
      seen = seen & (there.least > V(T(0)));
      residual = there.value - at.inverse;
    } else {
      reference = load_first(job.reference + i, left);
      residual = there.value - V(job.gain) * reference - V(job.bias);
    }
    const Robust<V> said = robust(residual * residual, job.sigma);
    const V zero = V(T(0)), weight = select(seen, said.weight, zero);
    V dx = there.dx, dy = there.dy;
    if (job.reference_gradient) {
      const T* reference_gradient = job.reference_gradient + i;
      dx = V(T(0.5)) * (dx + V(job.gain) * load_first(reference_gradient, left));
      dy = V(T(0.5)) * (dy + V(job.gain) * load_first(reference_gradient + job.count, left));
    }
    Vec3<V> d = {dx * at.du_dx, dy * at.dv_dy, zero};
    d.z = -(d.x * at.point.x + d.y * at.point.y) * at.inverse;
    if constexpr (kDepth) d.z = d.z + at.inverse * at.inverse;
    V j[kCount];
    by_pose(at.point, d, j);
    if constexpr (!kDepth) {
      j[6] = -reference;
      j[7] = V(T(-1));
    }
    for (V& one : j) one = select(seen, one, zero);  // a weight of 0 is not enough: a lane may hold NaN
    add<kCount>(sums, j, weight, select(seen, residual, zero));
    // What is not in view counts as an outlier, or leaving the image would pay.
    sums[kCostSum] = sums[kCostSum] + select(real, select(seen, said.cost, V(T(2))), zero);
    sums[kSeenSum] = sums[kSeenSum] + select(seen, V(T(1)), zero);
    const V missing = V(std::numeric_limits<T>::quiet_NaN());
    if (job.residuals) store_first(job.residuals + i, select(seen, residual, missing), left);
  }
  for (int k = 0; k < kAlignmentSums; ++k) out[k] += double(sum(sums[k]));
}

// The residual of a descriptor has many channels: they fill the lanes. What they say about the image position
// is six numbers, from which the pose's follow.
template <class T>
struct FeatureSums {
  T rr, rx, ry, xx, xy, yy;  // products of residual and image gradient, summed over the channels
};

template <class T>
SPLAT_LANE FeatureSums<T> compare(const AlignmentJob<T>& job, const T* reference, T u, T v) {
  using V = Vec<T>;
  const int column = int(u), row = int(v), channels = job.channels;
  const V fx = V(u - T(column)), fy = V(v - T(row));
  const T* top_row = job.image + (int64_t(row) * job.width + column) * channels;
  const T* bottom_row = top_row + int64_t(job.width) * channels;
  V s[6];
  for (V& one : s) one = V(T(0));
  for (int c = 0; c < channels; c += V::kCount) {
    const V a = V::load(top_row + c), b = V::load(top_row + channels + c);
    const V e = V::load(bottom_row + c), f = V::load(bottom_row + channels + c);
    const V top = b - a, twist = f - e - top;
    const V dx = top + fy * twist, dy = e - a + fx * twist;
    const V r = a + fx * top + fy * dy - V::load(reference + c);
    s[0] = s[0] + r * r;
    s[1] = s[1] + r * dx;
    s[2] = s[2] + r * dy;
    s[3] = s[3] + dx * dx;
    s[4] = s[4] + dx * dy;
    s[5] = s[5] + dy * dy;
  }
  return {sum(s[0]), sum(s[1]), sum(s[2]), sum(s[3]), sum(s[4]), sum(s[5])};
}

template <class T>
void add_feature(const FeatureSums<T>& f, const T* jx, const T* jy, T weight, double* out) {
  int index = 0;
  for (int row = 0; row < 6; ++row) {
    const T by_x = f.xx * jx[row] + f.xy * jy[row], by_y = f.xy * jx[row] + f.yy * jy[row];
    for (int column = row; column < 6; ++column)
      out[index++] += double(weight * (by_x * jx[column] + by_y * jy[column]));
    index += kUnknowns - 6;
    out[kGradientSum + row] += double(weight * (f.rx * jx[row] + f.ry * jy[row]));
  }
}

template <class T>
void feature_chunk(const AlignmentJob<T>& job, int64_t begin, int64_t end, double* out) {
  for (int64_t i = begin; i < end; ++i) {
    const T* p = job.points + i;
    const auto at = project(job, p[0], p[job.count], p[2 * job.count]);
    if (job.residuals) job.residuals[i] = std::numeric_limits<T>::quiet_NaN();
    if (!at.inside) {
      out[kCostSum] += 2;
      continue;
    }
    const FeatureSums<T> f = compare(job, job.reference + i * job.channels, at.u, at.v);
    const Robust<T> said = robust(f.rr, job.sigma);
    T jx[6], jy[6];
    by_pose(at.point, Vec3<T>{at.du_dx, T(0), -at.du_dx * at.point.x * at.inverse}, jx);
    by_pose(at.point, Vec3<T>{T(0), at.dv_dy, -at.dv_dy * at.point.y * at.inverse}, jy);
    add_feature(f, jx, jy, said.weight, out);
    out[kCostSum] += double(said.cost);
    out[kSeenSum] += 1;
    if (job.residuals) job.residuals[i] = square_root(f.rr);
  }
}

template <class T>
void chunk(const AlignmentJob<T>& job, int64_t begin, int64_t end, double* sums) {
  switch (job.residual) {
    case Residual::kPhotometric:
      return scalar_chunk<Residual::kPhotometric>(job, begin, end, sums);
    case Residual::kInverseDepth:
      return scalar_chunk<Residual::kInverseDepth>(job, begin, end, sums);
    case Residual::kFeatures:
      return feature_chunk(job, begin, end, sums);
  }
}

}  // namespace

void align_float(const AlignmentJob<float>& job, int64_t begin, int64_t end, double* sums) {
  chunk(job, begin, end, sums);
}
void align_double(const AlignmentJob<double>& job, int64_t begin, int64_t end, double* sums) {
  chunk(job, begin, end, sums);
}

}  // namespace SPLAT_ISA
}  // namespace splat

// From a projected Gaussian to what pixels need: low-pass filter, conic, opacity compensation, exact extent.
#pragma once

#include "splat/math.h"

namespace splat {

constexpr double kMinAlpha = 1.0 / 255;      // a smaller contribution is skipped
constexpr double kMinCompensationSq = 1e-6;  // floor of the squared compensation; no gradient below it

template <class S>
struct Footprint {
  Sym2<S> filtered;  // covariance with the low-pass filter
  S sharp_det, det;  // determinants before and after the filter
  Sym2<S> conic;     // inverse of `filtered`
  S compensation;    // factor on the opacity, 1 unless antialiased
};

// det = det(raw) + f (xx + yy) + f^2 has no cancellation, unlike the determinant of the filtered matrix.
template <class S, class T>
SPLAT_HD Footprint<S> footprint(const Sym2<S>& raw, T low_pass, bool antialiased) {
  Footprint<S> f;
  f.sharp_det = maximum(raw.xx * raw.yy - raw.xy * raw.xy, S(0));
  f.det = f.sharp_det + low_pass * (raw.xx + raw.yy) + S(low_pass * low_pass);
  f.filtered = {raw.xx + low_pass, raw.xy, raw.yy + low_pass};
  const S inverse = S(1) / f.det;
  f.conic = {f.filtered.yy * inverse, -f.filtered.xy * inverse, f.filtered.xx * inverse};
  f.compensation = antialiased ? square_root(maximum(f.sharp_det * inverse, S(T(kMinCompensationSq)))) : S(1);
  return f;
}

// d_conic and d_opacity (by the compensated opacity) -> the raw covariance, d_opacity by the original one.
template <class S, class T>
SPLAT_HD Sym2<S> footprint_adjoint(const Sym2<S>& raw, const Footprint<S>& f, T low_pass, bool antialiased,
                                   const S& opacity, const Sym2<S>& d_conic, S& d_opacity) {
  // d(Sigma) = -Q G Q with Q the conic and G the symmetric gradient.
  const Sym2<S>& q = f.conic;
  const S half = S(T(0.5)) * d_conic.xy;
  const S r0 = q.xx * d_conic.xx + q.xy * half, r1 = q.xx * half + q.xy * d_conic.yy;
  const S r2 = q.xy * d_conic.xx + q.yy * half, r3 = q.xy * half + q.yy * d_conic.yy;
  Sym2<S> d_raw = {-(r0 * q.xx + r1 * q.xy), S(-2) * (r0 * q.xy + r1 * q.yy), -(r2 * q.xy + r3 * q.yy)};
  if (!antialiased) return d_raw;
  const S d_compensation = d_opacity * opacity;
  d_opacity = d_opacity * f.compensation;
  // c = sqrt(s / d): dc = c/2 (ds/s - dd/d), with ds by the raw entries and dd = ds + f (dxx + dyy).
  const auto floored = !(f.sharp_det > T(kMinCompensationSq) * f.det);
  const S scale = select(floored, S(0), S(T(0.5)) * d_compensation * f.compensation);
  const S by_sharp = select(floored, S(0), scale / f.sharp_det), by_det = scale / f.det;
  const S ds = by_sharp - by_det;
  return {d_raw.xx + ds * raw.yy - by_det * low_pass, d_raw.xy - S(2) * ds * raw.xy,
          d_raw.yy + ds * raw.xx - by_det * low_pass};
}

// One splat as the tile kernels read it: 16 numbers, one cache line in float.
template <class T>
struct alignas(sizeof(T) * 16) Splat {
  T x, y;  // pixels
  T conic_xx, conic_xy, conic_yy;
  T opacity;  // compensated
  T depth;    // metres
  T red, green, blue;
  T extent_x, extent_y;  // half the bounding box of the ellipse alpha >= 1/255; negative: not visible
  T slope_x, reach_x;    // dx = slope_x dy +- reach_x sqrt(1 - (dy / extent_y)^2) bounds a row
  T slope_y, reach_y;    // likewise dy for a column
};

struct Span {
  float low, high;  // empty when low > high
};

// Where the ellipse lies along one axis, over a strip [low, high] of the other axis (relative to its centre).
// `slope` and `reach` are those of the wanted axis, `extent` is half the size across the strip and `tip` the
// offset across the strip of the ellipse's extreme point. The boundary is concave: its maximum over the strip
// is at the tip, or at the strip's side nearest to it. Two kernels that evaluate this get the same numbers.
template <class T>
SPLAT_HD Span strip_span(T slope, T reach, T extent, T tip, T low, T high) {
  low = low > -extent ? low : -extent;
  high = high < extent ? high : extent;
  if (!(low <= high)) return {1.f, -1.f};
  const T at_high = tip < low ? low : (tip > high ? high : tip);
  const T at_low = -tip < low ? low : (-tip > high ? high : -tip);
  const T inverse = extent > 0 ? 1 / extent : T(0);
  const T h = product(at_high, inverse), l = product(at_low, inverse);
  const T rest_h = 1 - product(h, h), rest_l = 1 - product(l, l);
  // Slightly wider than exact, against rounding: every pixel is tested on its own anyway.
  const T slack = T(1e-2) + product(T(1e-4), reach);
  const T below = product(reach, square_root(rest_l > 0 ? rest_l : T(0)));
  const T above = product(reach, square_root(rest_h > 0 ? rest_h : T(0)));
  return {float(product(slope, at_low) - below - slack), float(product(slope, at_high) + above + slack)};
}

}  // namespace splat

// What one splat does to one pixel: alpha, transmittance, and the adjoint of the blending sum.
#pragma once

#include "splat/footprint.h"

namespace splat {

constexpr double kMaxAlpha = 0.99;          // keeps 1 / (1 - alpha) finite
constexpr double kMinTransmittance = 1e-4;  // a pixel is finished before it would become darker than this

// alpha of a splat at an offset whose exponent is `power` = d^T conic d / 2.
template <class S, class T>
SPLAT_HD S splat_alpha(T opacity, const S& power) {
  return minimum(S(opacity) * exponential(-power), S(T(kMaxAlpha)));
}

template <class S>
struct Blend {
  S weight;         // alpha x transmittance, 0 where the splat does not contribute
  S transmittance;  // behind the splat
};

// A finished pixel keeps its transmittance with a negative sign: nothing contributes to it any more.
template <class S, class T>
SPLAT_HD Blend<S> blend(const S& alpha, const S& transmittance) {
  const S weight = product(select(alpha >= S(T(kMinAlpha)), alpha, S(0)), transmittance);
  const S behind = transmittance - weight;
  const auto contributes = behind >= S(T(kMinTransmittance));
  return {select(contributes, weight, S(0)), select(contributes, behind, negative(transmittance))};
}

// alpha / (1 - alpha), for power_adjoint().
template <class S>
SPLAT_HD S odds_of(const S& alpha) {
  return quotient(alpha, S(1) - alpha);
}

// dL/d(power) of a splat that contributes with `weight`, 0 where it does not. `value` is sum_c g_c c for this
// splat's colour and `rest` the same sum, weighted, over everything behind it: dL/d(alpha) = T value - rest /
// (1 - alpha), d(alpha)/d(power) = -alpha. Where alpha is clamped it does not depend on the power.
template <class S, class T>
SPLAT_HD S power_adjoint(const S& alpha, const S& odds, const S& weight, const S& value, const S& rest) {
  const S d_power = rest * odds - weight * value;
  const auto follows = (weight > S(0)) & (alpha < S(T(kMaxAlpha)));
  return select(follows, d_power, S(0));
}

}  // namespace splat

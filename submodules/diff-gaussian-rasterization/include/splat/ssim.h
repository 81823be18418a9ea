// Structural similarity of two images at one pixel, and its derivatives: Wang, Bovik, Sheikh, Simoncelli,
// "Image quality assessment: from error visibility to structural similarity" (2004), with their 11-tap
// Gaussian window G of 1.5 pixels and zeros outside the image.
#pragma once

#include "splat/math.h"

namespace splat {

constexpr int kSsimHalf = 5;                      // pixels: half the window's width
constexpr int kSsimTaps = 2 * kSsimHalf + 1;      // of the window in each direction
constexpr double kSsimC1 = 1e-4, kSsimC2 = 9e-4;  // (0.01, 0.03)^2: for intensities in [0, 1]

// exp(-k^2 / (2 1.5^2)) for k = tap - 5, divided by the sum of all eleven.
template <class T>
SPLAT_HD constexpr T ssim_weight(int tap) {
  constexpr T kWeights[] = {
      T(0.2660117248617943),  T(0.21300553771125366),  T(0.1093606895097),
      T(0.03600077212843082), T(0.007598758135239184), T(0.0010283800844791099),
  };
  return kWeights[tap < kSsimHalf ? kSsimHalf - tap : tap - kSsimHalf];
}

// The window's means around one pixel: of x, of y, of x^2 + y^2 and of x y.
template <class S>
struct SsimMeans {
  S x, y, squares, product;
};

// With P, Q and R the derivatives by the means of x, of x^2 + y^2 and of x y, the derivative of the summed
// similarity by the image x is  G*P + 2 x (G*Q) + y (G*R):  the window is symmetric.
template <class S>
struct Ssim {
  S value;
  S by_x, twice_by_squares, by_product;  // P, 2 Q, R
};

// (2 m n + C1) (2 cov + C2) / ((m^2 + n^2 + C1) (var + C2)) for means m, n: var of both images together.
template <class S, class T>
SPLAT_HD Ssim<S> ssim(const SsimMeans<S>& mean) {
  const S cross = mean.x * mean.y, squares = mean.x * mean.x + mean.y * mean.y;
  const S a1 = cross + cross + S(T(kSsimC1));
  const S covariance = mean.product - cross;
  const S a2 = covariance + covariance + S(T(kSsimC2));
  const S b1 = squares + S(T(kSsimC1));
  const S b2 = mean.squares - squares + S(T(kSsimC2));
  const S scale = S(T(1)) / (b1 * b2);
  const S value = a1 * a2 * scale;
  const S by_x = (mean.y * (a2 - a1) - mean.x * value * (b2 - b1)) * scale;
  const S by_squares = value * b1 * scale, by_product = a1 * scale;
  return {value, by_x + by_x, -(by_squares + by_squares), by_product + by_product};
}

}  // namespace splat

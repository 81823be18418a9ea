// One step of Adam for one number: Kingma, Ba, "Adam: a method for stochastic optimization" (2015).
#pragma once

#include "splat/math.h"

namespace splat {

// What all numbers of a parameter share in one step; divisions by constants of the step are done once.
template <class T>
struct AdamStep {
  T beta1, beta2;  // decay of the moments per step
  T rest1, rest2;  // 1 - beta, rounded once
  T rate;          // learning rate / (1 - beta1^step)
  T inverse_root;  // 1 / sqrt(1 - beta2^step)
  T eps;
};

inline AdamStep<double> adam_step(double rate, double beta1, double beta2, double eps, int64_t step) {
  const double bias1 = 1 - std::pow(beta1, double(step)), bias2 = 1 - std::pow(beta2, double(step));
  return {beta1, beta2, 1 - beta1, 1 - beta2, rate / bias1, 1 / std::sqrt(bias2), eps};
}

template <class T>
AdamStep<T> rounded(const AdamStep<double>& a) {
  return {T(a.beta1), T(a.beta2), T(a.rest1), T(a.rest2), T(a.rate), T(a.inverse_root), T(a.eps)};
}

template <class S, class T>
SPLAT_HD void adam(const AdamStep<T>& step, const S& gradient, S& value, S& mean, S& square) {
  mean = mean + S(step.rest1) * (gradient - mean);
  square = S(step.beta2) * square + S(step.rest2) * gradient * gradient;
  const S deviation = square_root(square) * S(step.inverse_root) + S(step.eps);
  value = value - S(step.rate) * mean / deviation;
}

}  // namespace splat

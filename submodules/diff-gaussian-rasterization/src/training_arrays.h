// The caller's arrays for the photometric loss and Adam, the same for both schedules.
#pragma once

#include <cstdint>

#include "splat/adam.h"

namespace splat {

// Images of three channels and how the loss weighs their pixels.
template <class T>
struct PhotometricJob {
  const T *rendered, *target;  // [3, H, W]
  T* gradient;                 // [3, H, W], by `rendered`; null: not wanted
  int width, height;
  T difference_weight;  // of |x - y| of one pixel in the loss
  T similarity_weight;  // of the similarity at one pixel
};

// For (1 - lambda) mean |x - y| + lambda (1 - mean SSIM).
template <class T>
PhotometricJob<T> photometric_job(const T* rendered, const T* target, T* gradient, int width, int height,
                                  double lambda) {
  const double numbers = 3.0 * width * height;
  return {rendered, target, gradient, width, height, T((1 - lambda) / numbers), T(-lambda / numbers)};
}

// One parameter [rows, width] in place.
template <class T>
struct AdamJob {
  AdamStep<T> step;
  T* value;
  const T* gradient;
  T *mean, *square;        // the moments
  const uint8_t* visible;  // [rows]: rows with 0 are left alone; null: all rows take part
  int64_t rows;
  int width;
};

}  // namespace splat

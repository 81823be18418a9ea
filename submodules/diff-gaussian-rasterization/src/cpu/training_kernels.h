// The inner loops of training beside the rasterizer, compiled once per instruction set: the photometric loss
// and Adam.
#pragma once

#include <cstdint>

#include "training_arrays.h"

namespace splat {

// A rectangle of one channel that is worked on at a time, small enough for the cache.
struct PhotometricTile {
  int channel;
  int first_row, last_row;  // the last is not included
  int first_column, last_column;
};

// Sums over the pixels of a tile.
struct PhotometricSums {
  double difference, similarity;  // |x - y|, SSIM
};

template <class T>
struct TrainingKernels {
  // Size of the scratch memory of `photometric`, in numbers, for tiles of that many columns.
  int64_t (*photometric_scratch)(int columns);
  // Writes the tile's part of the gradient.
  PhotometricSums (*photometric)(const PhotometricJob<T>&, const PhotometricTile&, T* scratch);
  void (*adam)(const AdamJob<T>&, int64_t first_row, int64_t last_row);
};

// The kernels for this processor, chosen like kernels() in kernels.h.
template <class T>
const TrainingKernels<T>& training_kernels();

}  // namespace splat

#define SPLAT_DECLARE_TRAINING_KERNELS(ISA)                                                           \
  namespace splat {                                                                                   \
  namespace ISA {                                                                                     \
  int64_t photometric_scratch(int);                                                                   \
  PhotometricSums photometric_float(const PhotometricJob<float>&, const PhotometricTile&, float*);    \
  PhotometricSums photometric_double(const PhotometricJob<double>&, const PhotometricTile&, double*); \
  void adam_float(const AdamJob<float>&, int64_t, int64_t);                                           \
  void adam_double(const AdamJob<double>&, int64_t, int64_t);                                         \
  }                                                                                                   \
  }

#if defined(SPLAT_ISA)
SPLAT_DECLARE_TRAINING_KERNELS(SPLAT_ISA)
#endif

// The caller's arrays, the same for both schedules. On a GPU the pointers are its own.
#pragma once

#include <cstdint>

namespace splat {

// A null pointer stands for an input that is not given or a gradient that is not wanted.
template <class T>
struct Gaussians {
  int64_t count;
  const T* means;        // [N, 3]
  const T* quaternions;  // [N, 4], with scales; or covariances
  const T* scales;       // [N, 3]
  const T* covariances;  // [N, 6]
  const T* opacities;    // [N]
  const T* sh;           // [N, sh_bases, 3], or colors
  const T* colors;       // [N, 3]
  const T* features;     // [N, channels]
  const T* offsets;      // [N, 2] pixels
  int sh_bases;          // stored
  int sh_degree;         // used
  int channels;
};

template <class T>
struct GaussianGradients {
  T* means;
  T* quaternions;
  T* scales;
  T* covariances;
  T* opacities;
  T* sh;
  T* colors;
  T* features;
  T* offsets;
  T* pose;  // [12]: rotation row-major, translation
};

// One image to render: the camera's own or, for features, the camera scaled to their size.
template <class T>
struct Raster {
  int width, height, tiles_x, tiles_y;
  T scale_x, scale_y;  // from the camera's pixels
};

template <class T>
struct Images {
  T *rgb, *depth, *alpha;  // [3, H, W], [H, W], [H, W]
  T* features;             // [C, h, w] or null
  int32_t* radii;          // [N]
};

template <class T>
struct ImageGradients {
  const T *rgb, *depth, *alpha, *features;  // null: zero
};

}  // namespace splat

// The schedule: project, sort, bin, render; and back again.
#pragma once

#include <vector>

#include "binning.h"
#include "buffer.h"
#include "kernels.h"

namespace splat {

template <class T>
struct Request {
  Camera<T> camera;
  Gaussians<T> in;
  int feature_width, feature_height;
  T background[3];
  bool features_move_geometry;
  bool differentiable;  // false: lists that only the backward pass reads are not built
  int threads;
  int64_t max_intersections;
};

// What the forward pass leaves for the backward pass.
template <class T>
struct State {
  struct Layer {
    Raster<T> raster;
    Buffer<Splat<T>> splats;  // [N]
    TileLists lists;
    bool color, features;
  };
  std::vector<Layer> layers;  // the image, then the features unless they have its size
  const Kernels<T>* kernels = nullptr;
  int64_t count = 0;  // of Gaussians
  bool differentiable = false;

  State() = default;
  State(State&&) = default;
  State(const State&) = delete;  // std::vector claims to be copyable even if its elements are not
};

// Renders with `kernels`, which must outlive the state. Throws std::invalid_argument for a non-finite
// parameter, std::length_error for too many tile intersections.
template <class T>
State<T> forward(const Request<T>& request, const Images<T>& out, const Kernels<T>& kernels);

// All gradients must be zero on entry, except that of the features: if the images have a feature gradient,
// every row of it is written, or only the rows that are not zero if `features_zeroed`. Gradients with null
// pointers are not computed.
template <class T>
void backward(const Request<T>& request, const State<T>& state, const Images<T>& images,
              const ImageGradients<T>& d_images, const GaussianGradients<T>& out, bool features_zeroed);

}  // namespace splat

// The schedule on a GPU: project, sort, bin, render; and back again. The twin of cpu/rasterizer.h, for float.
#pragma once

#include "jobs.h"

namespace splat::cuda {

struct Request {
  Camera<float> camera;  // its pose is not set: `pose` stays on the device
  const float* pose;     // cam_from_world [4, 4]
  Gaussians<float> in;
  int feature_width, feature_height;
  float background[3];
  bool features_move_geometry;
  bool full_precision;  // of the feature products
  int multiprocessors;  // of the device: what a raster's tiles must fill
  int64_t max_intersections;
  Counts* found;  // on the host: where to leave what was counted, for messages; or null
};

// What the forward pass leaves for the backward pass: pointers into the caller's memory.
struct State {
  struct Layer {
    TiledRaster raster;
    Splat<float>* splats;  // [N]
    TileLists lists;
    bool color, features;
  };
  Layer layers[2];  // the image, then the features unless they have its size
  int count;        // of layers
  uint32_t* order;  // [visible] Gaussians, nearest first
  int64_t visible;
};

// The host waits once, for the number of tile intersections. `memory` must outlive the state. Throws
// std::invalid_argument for non-finite input, std::length_error for too many of them, DeviceError where CUDA
// fails, and what `memory` throws.
State forward(const Request& request, const Images<float>& out, const Allocate& memory, cudaStream_t stream);

// All gradients must be zero on entry. Those with null pointers are not computed.
void backward(const Request& request, const State& state, const Images<float>& images,
              const ImageGradients<float>& d_images, const GaussianGradients<float>& out,
              const Allocate& memory, cudaStream_t stream);

}  // namespace splat::cuda

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
  bool full_precision;    // of the feature products
  int multiprocessors;    // of the device: what a raster's tiles must fill
  int64_t feature_bytes;  // for the gradients of the features of every intersection, some channels at a time
  int64_t max_intersections;  // of each raster; with `counts` there is room for as many
  Counts* counts;  // on the device: the host leaves what it cannot know there and does not wait. Or null
};

// Throws std::invalid_argument for non-finite input, std::length_error for more tile intersections than the
// limit of that name.
void check_counts(const Counts& counts, int64_t limit, const char* name);

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

// The host waits once, for the number of tile intersections, and then throws what check_counts() throws; or,
// with `counts`, not at all, so that a CUDA graph can be captured: the caller checks them later, and a pass
// that they refuse renders the background. Four allocations. Throws DeviceError where CUDA fails, and what
// `memory` throws.
// Fills the state as it goes: after an exception it tells what memory was asked for.
void forward(const Request& request, const Images<float>& out, const Allocate& memory, cudaStream_t stream,
             State& state);

// All gradients must be zero on entry. Those with null pointers are not computed. One allocation.
void backward(const Request& request, const State& state, const Images<float>& images,
              const ImageGradients<float>& d_images, const GaussianGradients<float>& out,
              const Allocate& memory, cudaStream_t stream);

}  // namespace splat::cuda

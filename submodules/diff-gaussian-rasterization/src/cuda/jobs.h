// The plain data that kernels work on, and the functions that put each step on a stream. All pointers are the
// device's. Steps are asynchronous; rasterizer.cu orders them.
#pragma once

#include "arrays.h"
#include "primitives.h"
#include "splat/camera.h"
#include "splat/footprint.h"

namespace splat::cuda {

// A warp renders 8 x 4 pixels; the tiles of a raster are 16 x 16 pixels (8 warps), or 8 x 8 (2 warps) where
// the larger ones would be too few to fill a GPU.
constexpr int kWarpWidth = 8, kWarpHeight = 4;
constexpr int kLargeTile = 16, kSmallTile = 8;

// The gradient of one tile intersection: what a splat's pixels within one tile add up to. h is dL/d(power);
// dx, dy are pixel minus mean. Padded to whole groups of four.
enum Gradient { kH, kHx, kHy, kHxx, kHxy, kHyy, kDRed, kDGreen, kDBlue, kDDepth };
constexpr int kGradientStride = 12;

// One image to render and the tiles it is cut into.
struct TiledRaster {
  Raster<float> raster;
  int tile;  // pixels on a side: kLargeTile or kSmallTile
};

// What the host reads back once per forward pass.
struct Counts {
  int64_t visible;           // Gaussians visible in any raster
  int64_t intersections[2];  // tile intersections of each raster
  uint64_t invalid;          // the first Gaussian with a non-finite parameter, UINT64_MAX: none
  uint32_t bad_pose;         // not 0: cam_from_world is not finite
  uint32_t bad_features;     // not 0: some feature of a visible Gaussian is not finite
};

// --- projection (project.cu) ---

struct ProjectJob {
  Camera<float> camera;  // without its pose: that is on the device, and stays there
  const float* pose;     // cam_from_world [4, 4], row-major
  Gaussians<float> in;
  int rasters;
  TiledRaster raster[2];
  Splat<float>* splats[2];  // [N] each; extent_x < 0 where not visible in that raster
  int32_t* tiles[2];        // [N] each: tiles touched, 0 where not visible
  float* depths;            // [N]; meaningful where visible
  uint8_t* visible;         // [N] 1 where visible in any raster
  int32_t* radii;           // [N] pixels of raster 0, 0 where not visible there
  Counts* counts;           // one, prepared by this step
};
// One thread per Gaussian. Sets every output for all N and `counts` (checks of pose and features included).
void project(const ProjectJob& job, cudaStream_t stream);

// --- binning (binning.cu) ---

struct TileLists {
  int64_t intersections;    // how many: one for each tile that a Gaussian touches
  uint32_t* gaussians;      // [intersections] Gaussians, tile by tile, nearest first
  uint32_t* gradient_ids;   // [intersections] row of its gradient; those of a Gaussian are consecutive
  int64_t* gaussian_begin;  // [visible + 1], by rank: the position in `order`
  int64_t* tile_begin;      // [tiles + 1]
  int32_t* processed;       // [tiles] Gaussians of the list that render() visited; written by it
};

// The Gaussians visible anywhere, nearest first, equal depths by index: [visible].
uint32_t* sort_by_depth(const ProjectJob& job, int64_t visible, const uint32_t* selected,
                        const Allocate& memory, cudaStream_t stream);

TileLists bin(const TiledRaster& raster, const Splat<float>* splats, const int32_t* tiles,
              const uint32_t* order, int64_t visible, int64_t intersections, const Allocate& memory,
              cudaStream_t stream);

// --- rendering (render.cu) and its adjoint (render_backward.cu) ---

struct RenderJob {
  TiledRaster raster;
  TileLists lists;
  const Splat<float>* splats;  // [N]
  bool color;                  // rgb, depth and alpha are rendered
  float background[3];
  const float* features;  // [N, channels], null: none rendered
  int channels;
  bool full_precision;  // of the feature products: three tf32 products (2^-20) instead of one (2^-11)
  int multiprocessors;  // of the device: what the blocks must fill
  Images<float> images;
};
void render(const RenderJob& job, cudaStream_t stream);

struct RenderBackwardJob {
  RenderJob forward;  // as it was; its images hold what it rendered (features only if they move geometry)
  bool color;         // a gradient by rgb, depth or alpha flows through this raster
  bool features_move_geometry;  // the feature gradient reaches the shapes, through `gradients`
  ImageGradients<float> d;      // null: zero
  float* gradients;             // [intersections, kGradientStride], null: the gradient stops at the features
  float* feature_gradients;     // [intersections, channels], null: no gradient to the features
  uint8_t* written;  // [intersections] which rows of `feature_gradients` are; the others stand for zeros
};
// Writes every row of `gradients`, zeros for intersections that the forward pass did not visit, but only
// those rows of `feature_gradients` that are not zero: in a dense scene most intersections are hidden. Sums
// are in a fixed order: the gradients are the same in every run.
void render_backward(const RenderBackwardJob& job, cudaStream_t stream);

// --- from per-intersection gradients to the caller's (project_backward.cu) ---

struct ProjectBackwardJob {
  ProjectJob forward;  // its splats and outputs other than these are not read
  const uint32_t* order;
  int64_t visible;
  const int64_t* gaussian_begin[2];
  const float* gradients[2];       // null: no gradient comes through this raster's shapes
  int feature_raster;              // the raster that features came through, -1: no gradient to them
  const float* feature_gradients;  // [intersections, channels]
  const uint8_t* written;          // [intersections]
  GaussianGradients<float> out;
};
// Writes the gradients of the visible Gaussians, and that of the pose [12]; the others must be zero on entry.
void project_backward(const ProjectBackwardJob& job, const Allocate& memory, cudaStream_t stream);

}  // namespace splat::cuda

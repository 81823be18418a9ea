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
inline int64_t tiles_of(const TiledRaster& raster) {
  return int64_t(raster.raster.tiles_x) * raster.raster.tiles_y;
}

// What the host reads back once per forward pass; or what the caller reads, where it gave a capacity, as five
// 64-bit integers.
struct Counts {
  int64_t visible;           // Gaussians visible in any raster
  int64_t intersections[2];  // tile intersections of each raster
  uint64_t invalid;          // the first Gaussian with a non-finite parameter, UINT64_MAX: none
  uint32_t bad_pose;         // not 0: cam_from_world is not finite
  uint32_t bad_features;     // not 0: some feature of a visible Gaussian is not finite
};
static_assert(sizeof(Counts) == 5 * sizeof(int64_t));

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

// The lists of a raster of so many tiles, to be filled.
TileLists place_lists(Layout& layout, int64_t visible, int64_t intersections, int64_t tiles);

// What binning needs beside its results, for one raster after the other.
struct BinScratch {
  uint32_t *keys, *sorted_keys;  // depths [visible], then tiles [intersections]
  uint32_t *ids, *gaussians;     // [intersections]
  int32_t* ranked;               // [visible]
  Temporary temporary;
};
// For rasters of at most so many; `bytes` is what bin_bytes() returns for them.
BinScratch place_bin_scratch(Layout& layout, int64_t visible, int64_t intersections, int64_t bytes);
int64_t bin_bytes(int64_t visible, int64_t intersections, int64_t tiles);

// The Gaussians that are to be binned. Where the caller gave a capacity the host does not know how many are
// visible and takes all of them, the invisible ones last; they touch no tile.
struct Selection {
  uint32_t* gaussians;  // [count] ascending; written if it is all of them
  int64_t count;
  bool all;
};

// Writes them to order [selection.count], nearest first, equal depths by index.
void sort_by_depth(const ProjectJob& job, const Selection& selection, uint32_t* order,
                   const BinScratch& scratch, cudaStream_t stream);

struct BinJob {
  TiledRaster raster;
  const Splat<float>* splats;
  const int32_t* tiles;  // [N] of this raster
  const uint32_t* order;
  int64_t visible;
  const Counts* counts;  // on the device, where the host does not know them: a pass that does not fit the
                         // caller's capacity, or that the host would have refused, renders nothing. Or null
};
// Fills the lists; with `counts` their `intersections` are the capacity, and the last ones may mean nothing.
void bin(const BinJob& job, const TileLists& lists, const BinScratch& scratch, cudaStream_t stream);

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

// Gradients of the features of every intersection, for some of the channels: [intersections, stride]. Most
// intersections of a dense scene are hidden, so that only those written count.
struct FeatureRows {
  float* at;  // null: no gradient to the features
  int first_channel, channels;
  int stride;        // floats, a multiple of four: a last vector may be wider than the channels
  uint8_t* written;  // [intersections] which rows are; the others stand for zeros
};

struct RenderBackwardJob {
  RenderJob forward;  // as it was; its images hold what it rendered (features only if they move geometry)
  bool color;         // a gradient by rgb, depth or alpha flows through this raster
  bool features_move_geometry;  // the feature gradient reaches the shapes, through `gradients`
  ImageGradients<float> d;      // null: zero
  float* gradients;             // [intersections, kGradientStride], null: the gradient stops at the features
  FeatureRows rows;
};
// Sums are in a fixed order: the gradients are the same in every run.
// Writes every row of `gradients`, zeros for intersections that the forward pass did not visit.
void render_backward_moments(const RenderBackwardJob& job, cudaStream_t stream);
// Writes those rows of `rows` that are not zero. `written` must be zero before the first channels.
void render_backward_features(const RenderBackwardJob& job, cudaStream_t stream);
// How many channels at a time: as many as fit in `bytes`, in whole blocks of the kernel, one block at least.
int feature_chunk(const RenderJob& job, int64_t bytes);

// --- from per-intersection gradients to the caller's (project_backward.cu) ---

struct ProjectBackwardJob {
  ProjectJob forward;  // its splats and outputs other than these are not read
  const uint32_t* order;
  int64_t visible;
  const int64_t* gaussian_begin[2];
  const float* gradients[2];  // null: no gradient comes through this raster's shapes
  double* pose_partials;      // [pose_partials()], if out.pose
  GaussianGradients<float> out;
};
int64_t pose_partials(int64_t visible);
// Writes the gradients of the visible Gaussians but for their features, and that of the pose [12]; the others
// must be zero on entry.
void project_backward(const ProjectBackwardJob& job, cudaStream_t stream);

struct FeatureSum {
  const uint32_t* order;
  int64_t visible;
  const int64_t* gaussian_begin;
  FeatureRows rows;
  float* out;  // [N, channels] of all channels
  int channels;
};
// Writes the gradients of the visible Gaussians' features, for the channels of the rows.
void sum_features(const FeatureSum& sum, cudaStream_t stream);

}  // namespace splat::cuda

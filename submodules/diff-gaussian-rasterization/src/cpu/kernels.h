// The inner loops that are compiled once per instruction set, and the plain data that they work on.
#pragma once

#include <cstdint>

#include "arrays.h"
#include "splat/camera.h"
#include "splat/footprint.h"

namespace splat {

constexpr int kTile = 16;  // pixels on a side
constexpr int kTilePixels = kTile * kTile;
constexpr int kCell = 4;  // pixels on a side; a tile's memory lies cell by cell, row by row within each
constexpr int kCellPixels = kCell * kCell;
constexpr int kCells = kTilePixels / kCellPixels;  // of a tile
constexpr int kBatch = 64;                         // splats of a tile that are blended together
constexpr int kGroup = 16;                         // of them, that are blended backward together
constexpr int64_t kGaussianChunk = 1024;           // Gaussians per work item; a multiple of every lane count
constexpr int kMaxLanes = 16;

// The gradient of one tile intersection: what a splat's pixels within one tile add up to. h is dL/d(power);
// dx, dy are pixel minus mean. Padded to whole cache lines, because rows are read in another order than
// written.
enum Gradient { kH, kHx, kHy, kHxx, kHxy, kHyy, kDRed, kDGreen, kDBlue, kDDepth };
constexpr int kGradients = 12, kGradientStride = 16;

// The tiles of a small raster that Gaussians touch, bit by bit: cheaper than lists where there are few tiles,
// and most Gaussians are hidden by others. A word stands for some whole rows of tiles.
struct TileBits {
  static constexpr int kWords = 4;  // at most

  int tiles_x = 0, rows = 0, words = 0;  // rows of tiles in a word; no words: the raster is too large
  uint32_t* bits = nullptr;              // [words, N]

  TileBits() = default;
  TileBits(int across, int down) : tiles_x(across) {
    if (across > 32) return;
    rows = 32 / across;
    words = (down + rows - 1) / rows;
    if (words > kWords) words = 0;
  }
};

template <class T>
struct ProjectJob {
  Camera<T> camera;
  Gaussians<T> in;
  int rasters;
  Raster<T> raster[2];
  Splat<T>* splats[2];  // [N] each
  TileBits tiles[2];    // to be found where it has words
  T* depths;            // [N], -1 where not visible in any raster
  int32_t* radii;       // [N] pixels of raster 0, 0 where not visible there
};

template <class T>
struct ProjectBackwardJob {
  Camera<T> camera;
  Gaussians<T> in;
  GaussianGradients<T> out;
  int rasters;
  Raster<T> raster[2];
  const Splat<T>* splats[2];
  const int64_t* gaussian_begin[2];  // [N + 1] each, into positions
  const uint32_t* positions[2];      // [intersections], Gaussian by Gaussian: see ByGaussian
  const uint16_t* hits[2];           // [intersections]: 0 where there is no gradient
  const T* gradients[2];  // [intersections, kGradientStride]; null: this raster has no gradient to shapes
  int feature_raster;     // the raster that features came through, -1: no gradient to them
  const uint32_t* feature_gradient_of;  // [intersections] row in feature_gradients: see Tile
  const T* feature_gradients;           // [rows, channels]
  bool features_zeroed;  // the output is zero: only Gaussians with a gradient need to be written
};

// The rows of tiles that each of a block of splats touches, and the columns in the first few of them.
struct TileRows {
  static constexpr int kSplats = 64, kRows = 6;
  struct Columns {
    int32_t first[kSplats], last[kSplats];  // empty where first > last
  };
  int32_t first[kSplats], count[kSplats];  // of the rows
  Columns columns[kRows];
};

// Where a tile without a list finds its Gaussians: the visible ones, nearest first, and one bit each that
// tells whether it touches the tile. The tile lists them while it is rendered, as far as they are needed.
struct TileSearch {
  const uint32_t* order;  // [visible] Gaussians; null: listed
  const uint32_t* bits;   // [visible]
  uint32_t bit;           // of the tile
  int64_t next, visible;
};

// One tile of one raster.
template <class T>
struct Tile {
  const Splat<T>* splats;
  uint32_t* gaussians;  // Gaussians that touch the tile, nearest first
  int64_t count;        // found so far
  bool open;          // whether some pixel would show more Gaussians than those; written by the forward pass
  TileSearch search;  // for more of them: forward only
  uint16_t* hits;     // [count] the cells that each Gaussian changed, bit by bit: from the forward pass
  int x, y;           // of its corner, pixels
  int width, height;  // of the image
  bool color;         // rgb, depth and alpha are rendered
  T background[3];
  const T* features_in;           // [N, channels] or null
  int channels, padded_channels;  // padded to whole vectors
  T *rgb, *depth, *alpha;         // [3, height, width], [height, width]: outputs
  T* features;                    // [channels, height, width]
  // Backward only:
  int64_t processed;                                // Gaussians of the list that the forward pass visited
  const T *d_rgb, *d_depth, *d_alpha, *d_features;  // null: zero
  T* gradients;                    // [count, kGradientStride]; null: the gradient stops at the features
  T* d_features_in;                // [N, channels]; null: no gradient to the features
  const int64_t* gaussian_begin;   // [N + 1]
  uint32_t* feature_gradient_of;   // [count] row in feature_gradients, for Gaussians in several tiles
  T* feature_gradients;            // [rows, channels] of all tiles
  int64_t first_feature_gradient;  // of the tile
  bool features_move_geometry;
};

// The fields of a splat that blending reads; the diagonal of the conic is halved.
template <class T>
struct Brush {
  T x, y, half_xx, xy, half_yy, opacity, depth, red, green, blue;
};
constexpr int kBrush = 10;  // numbers

// Per-thread memory for one tile. A batch has room for one more splat, whose values stay zero: lists of
// splats are padded with it to whole blocks.
template <class T>
struct TileScratch {
  alignas(64) T x[kTilePixels];  // pixel centres
  alignas(64) T y[kTilePixels];
  alignas(64) T transmittance[kTilePixels];
  alignas(64) T color[4][kTilePixels];    // red, green, blue, depth; their gradients in backward
  alignas(64) T constant[kTilePixels];    // the part of sum_c g_c c that is the same for every splat
  alignas(64) T rest[kTilePixels];        // the weighted sum over what is still behind
  alignas(64) T brushes[kBrush][kBatch];  // of the batch, field by field: forward only
  // Backward only, of a group of splats at the cells that they hit:
  alignas(64) T alphas[kGroup * kTilePixels];
  alignas(64) T odds[kGroup * kTilePixels];  // alpha / (1 - alpha)
  // Of features, each null unless there are any:
  T* planes;                       // [kCells, padded_channels, kCellPixels]: outputs, or their gradients
  T* pixels;                       // [kCells, kCellPixels, padded_channels]: the gradients again
  T* rows;                         // [kBatch + 1, padded_channels]: the features of a batch
  T* d_rows;                       // [kBatch + 1, padded_channels]: their gradients
  T* weights;                      // [kBatch + 1, kTilePixels]
  int64_t used_feature_gradients;  // rows that the tile has written so far: backward only
  bool features_finite = true;     // of all that the forward pass has read
};

template <class T>
struct Kernels {
  // Returns the first Gaussian of [begin, end) with a non-finite parameter, or -1.
  int64_t (*project)(const ProjectJob<T>&, int64_t begin, int64_t end);
  // Writes the gradients of Gaussians [begin, end) and their sum for the pose, [12].
  void (*project_backward)(const ProjectBackwardJob<T>&, int64_t begin, int64_t end, double* pose);
  // Finds the tiles that `count` <= TileRows::kSplats splats touch, those of the Gaussians given.
  void (*find_rows)(const Raster<T>&, const Splat<T>*, const uint32_t* gaussians, int count, TileRows&);
  // Returns how many Gaussians of the list it visited before every pixel was finished.
  int64_t (*render)(Tile<T>&, TileScratch<T>&);
  void (*render_backward)(const Tile<T>&, TileScratch<T>&);
  int lanes;
};

// The kernels for this processor, or for the instruction set that the environment's GSPLAT_ISA names
// (portable, avx2, avx512). Throws std::invalid_argument when that one is unknown or missing here.
template <class T>
const Kernels<T>& kernels();

// The name of the instruction set in use.
const char* isa_name();

}  // namespace splat

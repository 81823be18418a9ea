// What the two halves of the rendering's adjoint share: moments.cu for the shapes and colours of splats,
// features.cu for their features.
#pragma once

#include "mma.h"
#include "warp_tile.h"

namespace splat::cuda {

// Sums over pixels are matrix products of a warp: eight splats by its 32 pixels, four products of eight
// pixels (one row of them) each. A row is what one splat does to the pixels, or to channels; the order within
// it keeps both the store of a row and the load of a fragment free of bank conflicts.
constexpr int kGroup = 8;
template <int kColumns>
class alignas(16) SplatRows {
 public:
  __device__ __forceinline__ float& at(int splat, int column) { return rows_[splat][column ^ 4 * splat]; }
  __device__ __forceinline__ float at(int splat, int column) const {
    return rows_[splat][column ^ 4 * splat];
  }
  // Columns [4 n, 4 n + 4): they stay neighbours.
  __device__ __forceinline__ float4 quad(int splat, int n) const {
    return *reinterpret_cast<const float4*>(&rows_[splat][4 * (n ^ splat)]);
  }

 private:
  float rows_[kGroup][kColumns];
};
using GroupRows = SplatRows<kWarp>;

// What `blocks` blocks take of a multiprocessor's shared memory: CUDA adds 1 KB to each.
constexpr size_t shared_of(int blocks, size_t bytes) { return size_t(blocks) * (bytes + 1024); }

// Where a lane stands in the fragments of mma.h.
struct FragmentLane {
  int g, t;
};
__device__ __forceinline__ FragmentLane fragment_lane() {
  const int lane = threadIdx.x % kWarp;
  return {lane / 4, lane % 4};
}

// The list of the block's tile: how many Gaussians the forward pass visited, and how many there are.
struct TileRange {
  int64_t begin;
  int processed, count;
};
__device__ __forceinline__ TileRange tile_range(const TileLists& lists) {
  const int64_t begin = lists.tile_begin[blockIdx.x];
  return {begin, lists.processed[blockIdx.x], int(lists.tile_begin[blockIdx.x + 1] - begin)};
}

// A pixel outside the image counts as finished.
__device__ __forceinline__ bool inside(const Raster<float>& raster, int x, int y) {
  return x < raster.width && y < raster.height;
}

__device__ __forceinline__ float pixel_alpha(const WarpSplat& s, const WarpPixels& pixels) {
  const float dx = float(pixels.x) + 0.5f - s.x, dy = float(pixels.y) + 0.5f - s.y;
  return warp_alpha(s, column_exponent(s, dx), dy);
}

}  // namespace splat::cuda

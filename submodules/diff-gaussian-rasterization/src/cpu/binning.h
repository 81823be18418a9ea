// Which Gaussians touch which tile, nearest first.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "team.h"

namespace splat {

// The projected Gaussians of one raster.
template <class T>
struct Splatted {
  Raster<T> raster;
  const Splat<T>* splats;  // [N]
  TileBits tiles;          // without words: list them
};

// The intersections of a raster ordered by Gaussian, and by position for each Gaussian: gradients of a
// Gaussian are added in this order, which does not depend on the number of threads.
struct ByGaussian {
  Buffer<int64_t> begin;       // [N + 1] into positions
  Buffer<uint32_t> positions;  // [intersections]
};

// The tile intersections of one raster, tile by tile: which Gaussians touch a tile. The backward pass writes
// one gradient per intersection, in the same order.
struct TileLists {
  std::vector<int64_t> tile_begin;  // [tiles + 1]
  Buffer<uint32_t> gaussians;       // [intersections] Gaussians
  Buffer<uint16_t> hits;            // [intersections] cells of the tile that the Gaussian changed, bit by bit
  std::vector<int64_t> processed;   // [tiles] Gaussians of the list that the forward pass visited
  ByGaussian by_gaussian;           // empty where the tiles listed their Gaussians themselves
};

// A view's Gaussians by tile: raster by raster either the lists, or bits from which tiles list their own.
struct Binned {
  std::vector<uint32_t> order;  // [visible] Gaussians, nearest first
  struct Layer {
    TileLists lists;
    Buffer<uint32_t> bits;  // [words, visible] in order
  };
  std::vector<Layer> layers;
};

// Bins every raster of a view; Gaussians with a depth below 0 are in none. Throws std::length_error when a
// raster has more than `max_intersections` tile intersections.
template <class T>
Binned bin(const std::vector<Splatted<T>>& rasters, const T* depths, int64_t count, int64_t max_intersections,
           const Kernels<T>& kernels, Team& team);

// The Gaussians that one tile listed itself.
struct Found {
  std::vector<uint32_t> gaussians;
  std::vector<uint16_t> hits;
};

// The lists of a raster whose tiles listed what changed their pixels.
TileLists lists_of(const std::vector<Found>& tiles);

// The same intersections by Gaussian.
ByGaussian list_by_gaussian(const TileLists& lists, int64_t gaussians);

}  // namespace splat

// Which Gaussians touch which tile, nearest first.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "team.h"
#include "touched_tiles.h"

namespace splat {

// The projected Gaussians of one raster.
template <class T>
struct Splatted {
  Raster<T> raster;
  const Splat<T>* splats;  // [N]
  TileBits tiles;          // without words: list them
  const uint8_t* wanted;   // [tiles] the tiles to be listed, or null: all
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

// Up to which depth a view's first slab goes: a quarter of the Gaussians where there are so many that they
// will close most tiles, all of them where there are few. Farther ones need to be sorted and binned only
// where they touch tiles that are still open then. Found from a sample; the same for any number of threads.
template <class T>
T first_slab(const T* depths, int64_t count);

// Which Gaussians of a view are to be binned.
template <class T>
struct BinRequest {
  const T* depths;  // [N], below 0 where not visible
  int64_t count;    // N
  Slab<T> slab;
  bool by_gaussian;  // whether the lists are wanted by Gaussian as well
  int64_t max_intersections;
};

// Bins every raster of a view. Throws std::length_error when a raster has more than `max_intersections` tile
// intersections.
template <class T>
Binned bin(const std::vector<Splatted<T>>& rasters, const BinRequest<T>& request, const Kernels<T>& kernels,
           Team& team);

// Adds a farther slab to the order and the bits of a nearer one.
void append(Binned& binned, const Binned& farther);

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

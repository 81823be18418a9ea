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

// The pairs of a raster again, Gaussian by Gaussian and ascending, so that the sum over a Gaussian's slots
// has a fixed order.
struct Slots {
  Buffer<int64_t> begin;       // [N + 1] into positions
  Buffer<uint32_t> positions;  // [pairs]
};

// The tile lists of one raster. Its (tile, Gaussian) pairs lie tile by tile; every pair has a slot in which
// the backward pass leaves its gradients.
struct TileLists {
  std::vector<int64_t> tile_begin;  // [tiles + 1]
  Buffer<uint32_t> entries;         // [pairs] Gaussians
  Buffer<uint16_t> hits;            // [pairs] cells of the tile that the pair changed, bit by bit
  std::vector<int64_t> processed;   // [tiles] entries that the forward pass looked at
  Slots slots;                      // empty where tiles listed their own entries
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
// raster has more than `max_pairs` pairs.
template <class T>
Binned bin(const std::vector<Splatted<T>>& rasters, const T* depths, int64_t count, int64_t max_pairs,
           const Kernels<T>& kernels, Team& team);

// What one tile listed itself.
struct Found {
  std::vector<uint32_t> entries;
  std::vector<uint16_t> hits;
};

// The lists of a raster whose tiles listed what changed their pixels.
TileLists lists_of(const std::vector<Found>& tiles);

// The slots of all pairs.
Slots list_slots(const TileLists& lists, int64_t gaussians);

}  // namespace splat

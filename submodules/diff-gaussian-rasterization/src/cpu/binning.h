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
};

// The tile lists of one raster. Its (tile, Gaussian) pairs lie tile by tile; every pair has a slot in which
// the backward pass leaves its gradients. `positions` lists the pairs again, Gaussian by Gaussian and
// ascending, so that the sum over a Gaussian's slots has a fixed order.
struct TileLists {
  std::vector<int64_t> tile_begin;  // [tiles + 1]
  Buffer<uint32_t> entries;         // [pairs] Gaussians
  Buffer<uint16_t> hits;            // [pairs] cells of the tile that the pair changed, bit by bit
  Buffer<int64_t> slot_begin;       // [N + 1] into positions
  Buffer<uint32_t> positions;       // [pairs]
  std::vector<int64_t> processed;   // [tiles] entries that the forward pass looked at
};

// Bins every raster of a view; Gaussians with a depth below 0 are in none. Throws std::length_error when a
// raster has more than `max_pairs` pairs.
template <class T>
std::vector<TileLists> bin(const std::vector<Splatted<T>>& rasters, const T* depths, int64_t count,
                           int64_t max_pairs, const Kernels<T>& kernels, Team& team);

}  // namespace splat

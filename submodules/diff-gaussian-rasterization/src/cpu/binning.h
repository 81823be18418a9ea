// Which Gaussians touch which tile, nearest first.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "team.h"

namespace splat {

// Gaussians with depth >= 0, nearest first; equal depths keep their order.
template <class T>
std::vector<uint32_t> sort_by_depth(const T* depths, int64_t count);

// The tile lists of one raster. Its (tile, Gaussian) pairs lie tile by tile; every pair has a slot in which
// the backward pass leaves its gradients. `positions` lists the pairs again, Gaussian by Gaussian and
// ascending, so that the sum over a Gaussian's slots has a fixed order.
struct TileLists {
  std::vector<int64_t> tile_begin;  // [tiles + 1]
  Buffer<uint32_t> entries;         // [pairs] Gaussians
  Buffer<uint16_t> hits;            // [pairs] cells of the tile that the pair changed, bit by bit
  std::vector<int64_t> slot_begin;  // [N + 1] into positions
  Buffer<uint32_t> positions;       // [pairs]
  std::vector<int64_t> processed;   // [tiles] entries that the forward pass looked at
};

// Throws std::length_error when there are more than `max_pairs` pairs.
template <class T>
TileLists bin(const Raster<T>& raster, const Splat<T>* splats, int64_t count,
              const std::vector<uint32_t>& order, int64_t max_pairs, Team& team);

}  // namespace splat

// The tiles that the Gaussians of a slab touch, found once for several uses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "splat/tiles.h"

namespace splat {

// The Gaussians of a range of depths, without the farthest itself.
template <class T>
struct Slab {
  T nearest, farthest;
  bool holds(T depth) const { return depth >= nearest && depth < farthest; }
};

// The tiles that each Gaussian touches, row by row, Gaussian by Gaussian in memory.
class TouchedTiles {
 public:
  struct List {
    const uint32_t* tiles;
    int64_t count;
    const uint32_t* begin() const { return tiles; }
    const uint32_t* end() const { return tiles + count; }
  };

  explicit TouchedTiles(int64_t gaussians)
      : places_(gaussians),
        tiles_((gaussians + kGaussianChunk - 1) / kGaussianChunk),
        chunk_begin_(tiles_.size()) {}

  // Finds the tiles of the Gaussians of one chunk, those `wanted` [tiles] if not null, and returns their
  // number; only Gaussians of the slab may be asked for later. `running` [N], or null, gets the number of
  // tiles of each Gaussian and those before it in the chunk. Without `keep` tiles are counted but not stored.
  template <class T>
  int64_t find(const Raster<T>& raster, const Splat<T>* splats, const T* depths, const Slab<T>& slab,
               const uint8_t* wanted, const Kernels<T>& kernels, int64_t chunk, int64_t* running, bool keep) {
    const int64_t begin = chunk * kGaussianChunk, end = std::min(begin + kGaussianChunk, places_.size());
    std::vector<uint32_t>* tiles = keep ? &tiles_[chunk] : nullptr;
    const auto held = [&](int64_t i) { return slab.holds(depths[i]); };
    if (keep) {
      int64_t count = 0;
      for (int64_t i = begin; i < end; ++i) count += held(i);
      tiles->reserve(4 * count);
    }
    TileRows found;
    uint32_t gaussians[TileRows::kSplats];
    int64_t total = 0;
    for (int64_t group = begin; group < end; group += TileRows::kSplats) {
      const int64_t group_end = std::min(group + TileRows::kSplats, end), group_total = total;
      int count = 0;
      for (int64_t i = group; i < group_end; ++i) {
        gaussians[count] = uint32_t(i);
        count += held(i);
      }
      kernels.find_rows(raster, splats, gaussians, count, found);
      for (int lane = 0; lane < count; ++lane) {
        const uint32_t i = gaussians[lane];
        const int64_t before = total;
        for (int row = 0; row < found.count[lane]; ++row)
          total += append(columns_of(raster, splats[i], found, lane, row),
                          (found.first[lane] + row) * raster.tiles_x, wanted, tiles);
        places_[i] = {uint32_t(before), uint32_t(total - before)};
      }
      if (!running) continue;
      for (int64_t i = group, before = group_total; i < group_end; ++i) {
        if (held(i)) before += places_[i].count;
        running[i] = before;
      }
    }
    chunk_begin_[chunk] = total;
    return total;
  }

  // Once all are found: replaces the number of each chunk by the position of its first one.
  void add_up() {
    int64_t running = 0;
    for (int64_t& begin : chunk_begin_) running += std::exchange(begin, running);
  }
  int64_t chunk_begin(int64_t chunk) const { return chunk_begin_[chunk]; }
  int64_t begin(int64_t gaussian) const {
    return chunk_begin_[gaussian / kGaussianChunk] + places_[gaussian].first;
  }

  List of(int64_t gaussian) const {
    const Place& place = places_[gaussian];
    return {tiles_[gaussian / kGaussianChunk].data() + place.first, place.count};
  }

  // To be called before of(): first prefetch_place(), some Gaussians later prefetch_tiles().
  void prefetch_place(int64_t gaussian) const { __builtin_prefetch(&places_[gaussian]); }
  void prefetch_tiles(int64_t gaussian) const { __builtin_prefetch(of(gaussian).tiles); }

 private:
  // Where a Gaussian's tiles are in its chunk's list.
  struct Place {
    uint32_t first, count;
  };

  template <class T>
  static Range columns_of(const Raster<T>& raster, const Splat<T>& splat, const TileRows& found, int lane,
                          int row) {
    if (row < TileRows::kRows) return {found.columns[row].first[lane], found.columns[row].last[lane]};
    return touched_columns(splat, kTile, raster.tiles_x, found.first[lane] + row);
  }

  static int64_t append(Range columns, int row_start, const uint8_t* wanted, std::vector<uint32_t>* tiles) {
    int64_t count = 0;
    for (int tile = row_start + columns.first; tile <= row_start + columns.last; ++tile) {
      if (wanted && !wanted[tile]) continue;
      if (tiles) tiles->push_back(uint32_t(tile));
      ++count;
    }
    return count;
  }

  Buffer<Place> places_;                      // [N]
  std::vector<std::vector<uint32_t>> tiles_;  // by chunk
  std::vector<int64_t> chunk_begin_;          // by chunk
};

}  // namespace splat

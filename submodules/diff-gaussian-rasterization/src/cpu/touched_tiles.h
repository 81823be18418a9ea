// The tiles that every Gaussian touches, found once for several uses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "splat/tiles.h"

namespace splat {

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

  // Finds the tiles of the Gaussians of one chunk and returns their number. `running` [N] gets the number of
  // tiles of each Gaussian and those before it in the chunk. Without `keep` tiles are counted but not stored.
  template <class T>
  int64_t find(const Raster<T>& raster, const Splat<T>* splats, const Kernels<T>& kernels, int64_t chunk,
               int64_t* running, bool keep) {
    const int64_t begin = chunk * kGaussianChunk, end = std::min(begin + kGaussianChunk, places_.size());
    std::vector<uint32_t>* tiles = keep ? &tiles_[chunk] : nullptr;
    if (keep) tiles->reserve(4 * (end - begin));
    TileRows found;
    int64_t total = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int lane = int((i - begin) % TileRows::kSplats);
      if (lane == 0)
        kernels.find_rows(raster, splats + i, int(std::min<int64_t>(TileRows::kSplats, end - i)), found);
      const int64_t before = total;
      for (int row = 0; row < found.count[lane]; ++row)
        total += append(columns_of(raster, splats[i], found, lane, row),
                        (found.first[lane] + row) * raster.tiles_x, tiles);
      places_[i] = {uint32_t(before), uint32_t(total - before)};
      running[i] = total;
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

  static int64_t append(Range columns, int row_start, std::vector<uint32_t>* tiles) {
    if (tiles)
      for (int column = columns.first; column <= columns.last; ++column)
        tiles->push_back(uint32_t(row_start + column));
    return std::max(0, columns.last - columns.first + 1);
  }

  Buffer<Place> places_;                      // [N]
  std::vector<std::vector<uint32_t>> tiles_;  // by chunk
  std::vector<int64_t> chunk_begin_;          // by chunk
};

}  // namespace splat

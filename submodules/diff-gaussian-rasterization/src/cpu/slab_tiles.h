// Tiles whose lists are not known before they are rendered: of a small raster, whose tiles list their
// Gaussians themselves, and of a view with many Gaussians, which is binned slab by slab.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "binning.h"
#include "splat/tiles.h"

namespace splat {

// Memory of one thread for the list of one tile.
struct ListScratch {
  Buffer<uint32_t> gaussians;
  Buffer<uint16_t> hits;

  template <class T>
  void attach(Tile<T>& tile, int64_t room) {
    if (gaussians.size() < room) {
      gaussians = Buffer<uint32_t>(room);
      hits = Buffer<uint16_t>(room);
    }
    tile.gaussians = gaussians.data();
    tile.hits = hits.data();
  }
};

// Which Gaussians touch an open tile. Of a rectangle of tiles by sums over the rectangles from the first tile
// on; of a small raster by the bits that each Gaussian has.
template <class T>
class OpenTiles {
 public:
  OpenTiles(const Raster<T>& raster, const TileBits& bits, const std::vector<uint8_t>& open)
      : raster_(raster), bits_(bits), stride_(raster.tiles_x + 1), sums_(stride_ * (raster.tiles_y + 1), 0) {
    for (int y = 0; y < raster.tiles_y; ++y)
      for (int x = 0; x < raster.tiles_x; ++x) {
        const uint8_t own = open[y * raster.tiles_x + x];
        sums_[(y + 1) * stride_ + x + 1] = own + at(x, y + 1) + at(x + 1, y) - at(x, y);
        if (bits.words) mask_[y / bits.rows] |= uint32_t(own) << (y % bits.rows * raster.tiles_x + x);
      }
  }

  // Whether Gaussian i of N may do.
  bool touched(const Splat<T>* splats, int64_t i, int64_t count) const {
    uint32_t found = 0;
    for (int word = 0; word < bits_.words; ++word) found |= bits_.bits[word * count + i] & mask_[word];
    if (bits_.words) return found != 0;
    const Splat<T>& s = splats[i];
    const Range rows = touched_rows(s, kTile, raster_.tiles_y);
    const Range columns = tiles_between(float(s.x - s.extent_x) - 0.01f, float(s.x + s.extent_x) + 0.01f,
                                        kTile, raster_.tiles_x);
    if (rows.first > rows.last || columns.first > columns.last) return false;
    const int right = columns.last + 1, bottom = rows.last + 1;
    return at(right, bottom) + at(columns.first, rows.first) >
           at(columns.first, bottom) + at(right, rows.first);
  }

 private:
  int at(int x, int y) const { return sums_[y * stride_ + x]; }

  Raster<T> raster_;
  TileBits bits_;
  int stride_;
  std::vector<int> sums_;
  uint32_t mask_[TileBits::kWords] = {};
};

// Of one raster: keeps, for a backward pass, only the Gaussians that changed a pixel, so that what is hidden
// takes no memory.
template <class T>
class SlabTiles {
 public:
  SlabTiles() = default;
  SlabTiles(int64_t tiles, bool keeps) : found_(keeps ? tiles : 0), open_(tiles, 0) {}

  bool keeps() const { return !found_.empty(); }
  // Whether farther Gaussians would be seen, [tiles].
  const std::vector<uint8_t>& open() const { return open_; }

  // From the tile's own list.
  void render(Tile<T>& tile, int64_t index, const Kernels<T>& kernels, TileScratch<T>& scratch) {
    const int64_t processed = kernels.render(tile, scratch);
    open_[index] = tile.open;
    if (!keeps()) return;
    Found& found = found_[index] = {};
    const int64_t kept = processed - std::count(tile.hits, tile.hits + processed, 0);
    found.gaussians.reserve(kept);
    found.hits.reserve(kept);
    for (int64_t e = 0; e < processed; ++e) {
      if (!tile.hits[e]) continue;
      found.gaussians.push_back(tile.gaussians[e]);
      found.hits.push_back(tile.hits[e]);
    }
  }

  // From as much of the depth order as the tile needs, of which `all` and `bits` tell the Gaussians that
  // touch it.
  void search(Tile<T>& tile, int64_t index, const TileBits& all, const std::vector<uint32_t>& order,
              const Buffer<uint32_t>& bits, ListScratch& list, const Kernels<T>& kernels,
              TileScratch<T>& scratch) {
    const int row = int(index / all.tiles_x), column = int(index % all.tiles_x);
    const int64_t visible = int64_t(order.size());
    list.attach(tile, visible + kMaxLanes);
    tile.search = {order.data(), bits.data() + row / all.rows * visible,
                   uint32_t(1) << (row % all.rows * all.tiles_x + column), 0, visible};
    render(tile, index, kernels, scratch);
  }

  // From the list of the near slab, which the tile has, and that of a farther one: once more from the start,
  // so that no state of pixels is kept, and sums are added in the same order as with one list.
  void extend(Tile<T>& tile, int64_t index, const TileLists& farther, ListScratch& list,
              const Kernels<T>& kernels, TileScratch<T>& scratch) {
    const int64_t begin = farther.tile_begin[index], more = farther.tile_begin[index + 1] - begin;
    if (more == 0) return;
    const uint32_t* const near = tile.gaussians;
    list.attach(tile, tile.count + more);
    std::copy_n(near, tile.count, tile.gaussians);
    std::copy_n(farther.gaussians.data() + begin, more, tile.gaussians + tile.count);
    tile.count += more;
    render(tile, index, kernels, scratch);
  }

  TileLists lists() const { return lists_of(found_); }

 private:
  std::vector<Found> found_;
  std::vector<uint8_t> open_;
};

}  // namespace splat

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

// The tiles that each Gaussian touches, row by row.
class TouchedTiles {
 public:
  explicit TouchedTiles(int64_t gaussians)
      : rows_(gaussians),
        others_((gaussians + kGaussianChunk - 1) / kGaussianChunk),
        slots_(others_.size()) {}

  // Finds those of the Gaussians of one chunk. Returns how many they are, and for each Gaussian how many it
  // has together with those before it in the chunk: [N]. Without `keep` only the numbers are right.
  template <class T>
  int64_t find(const Raster<T>& raster, const Splat<T>* splats, int64_t chunk, int64_t* running, bool keep) {
    std::vector<Range>& others = others_[chunk];
    const int64_t begin = chunk * kGaussianChunk, end = std::min(begin + kGaussianChunk, rows_.size());
    int64_t total = 0;
    for (int64_t i = begin; i < end; ++i) {
      Rows& rows = rows_[i];
      rows = {0, 0, {}, uint32_t(others.size()), uint32_t(total)};
      total += find_rows(raster, splats[i], rows, keep ? &others : nullptr);
      running[i] = total;
    }
    slots_[chunk] = total;
    return total;
  }

  // Once all are found: the first slot of every chunk, in the place of their number.
  void add_up() {
    int64_t running = 0;
    for (int64_t& slots : slots_) running += std::exchange(slots, running);
  }
  int64_t chunk_slot(int64_t chunk) const { return slots_[chunk]; }
  int64_t slot(int64_t gaussian) const { return slots_[gaussian / kGaussianChunk] + rows_[gaussian].slot; }

  // Calls visit(row, columns) for every row of tiles that a Gaussian touches.
  template <class Visit>
  void visit_rows(uint32_t gaussian, const Visit& visit) const {
    const Rows& rows = rows_[gaussian];
    for (int i = 0; i < rows.count; ++i) {
      const Range columns = i < 2 ? rows.columns[i] : others_[gaussian / kGaussianChunk][rows.others + i - 2];
      if (columns.first <= columns.last) visit(rows.first + i, columns);
    }
  }

  void prefetch(int64_t gaussian) const { __builtin_prefetch(&rows_[gaussian]); }

 private:
  // Half a cache line, in which most Gaussians have room.
  struct alignas(32) Rows {
    int first, count;
    Range columns[2];  // of the first rows
    uint32_t others;   // where those of the other rows begin, in their chunk's list
    uint32_t slot;     // the Gaussian's first, among those of its chunk
  };

  static int64_t size(Range columns) { return std::max(0, columns.last - columns.first + 1); }

  template <class T>
  static int64_t find_rows(const Raster<T>& raster, const Splat<T>& s, Rows& rows,
                           std::vector<Range>* others) {
    const Range touched = touched_rows(s, kTile, raster.tiles_y);
    rows.first = touched.first;
    rows.count = std::max(0, touched.last - touched.first + 1);
    int64_t total = 0;
    for (int row = 0; row < rows.count; ++row) {
      const Range columns = rows.count == 1 ? bounding_columns(raster, s)
                                            : touched_columns(s, kTile, raster.tiles_x, rows.first + row);
      total += size(columns);
      if (row < 2)
        rows.columns[row] = columns;
      else if (others)
        others->push_back(columns);
    }
    return total;
  }

  // Of a splat within one row of tiles: its box is as tight as its ellipse.
  template <class T>
  static Range bounding_columns(const Raster<T>& raster, const Splat<T>& s) {
    return tiles_between(float(s.x - s.extent_x) - 0.01f, float(s.x + s.extent_x) + 0.01f, kTile,
                         raster.tiles_x);
  }

  Buffer<Rows> rows_;
  std::vector<std::vector<Range>> others_;  // by chunk
  std::vector<int64_t> slots_;              // by chunk
};

}  // namespace splat

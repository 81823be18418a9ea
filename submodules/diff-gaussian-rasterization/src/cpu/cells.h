// A tile in cells of 4x4 pixels, which splats fill better than rows: which cells a splat touches, and images
// in the order of cells. Compiled once per instruction set.
#pragma once

#include <cstring>

#include "kernels.h"
#include "simd.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

constexpr int kCellsAcross = kTile / kCell;
static_assert(kCellsAcross == 4 && kCell == 4 && kCells == 16 && kBatch == 64,
              "four lanes, masks in integers");

// Four numbers: one per column of cells, or one per pixel of a cell's row.
template <class T>
using Quad = typename QuadOf<T>::type;

template <class T>
SPLAT_LANE Quad<T> clamped(Quad<T> a, Quad<T> low, Quad<T> high) {
  const Quad<T> above = a < low ? low : a;
  return above > high ? high : above;
}

template <class T>
SPLAT_LANE Quad<T> root_of_positive(Quad<T> a) {
  a = a > T(0) ? a : Quad<T>{};
  for (int i = 0; i < 4; ++i) a[i] = splat::square_root(a[i]);
  return a;
}

// The cells whose pixels a splat may reach, bit by bit: strip_span() of the four columns of cells at once.
template <class T>
SPLAT_LANE uint32_t touched_cells(const Splat<T>& s, int tile_x, int tile_y) {
  using Q = Quad<T>;
  using Ints = typename QuadOf<T>::Ints;
  const T tip = s.slope_x * s.extent_y, inverse = s.extent_x > 0 ? 1 / s.extent_x : T(0);
  const Q left = Q{0, kCell, 2 * kCell, 3 * kCell} + (T(tile_x) + T(0.5) - s.x);
  const Q low = left < -s.extent_x ? Q{} - s.extent_x : left;
  const Q right = left + T(kCell - 1), high = right > s.extent_x ? Q{} + s.extent_x : right;
  const Q at_high = clamped<T>(Q{} + tip, low, high), at_low = clamped<T>(Q{} - tip, low, high);
  const Q h = at_high * inverse, l = at_low * inverse;
  const T slack = T(1e-2) + T(1e-4) * s.reach_y, top = s.y - T(tile_y) - T(0.5);
  const Q first = s.slope_y * at_low - s.reach_y * root_of_positive<T>(1 - l * l) - slack + top;
  const Q last = s.slope_y * at_high + s.reach_y * root_of_positive<T>(1 - h * h) + slack + top;
  const Ints inside = low <= high;
  Ints touched = {};
  for (int row = 0; row < kCellsAcross; ++row) {
    const Ints bit = Ints{1, 2, 4, 8} << (row * kCellsAcross);
    touched |= (first <= T(row * kCell + kCell - 1)) & (last >= T(row * kCell)) & bit;
  }
  touched &= inside;
  return uint32_t(touched[0] | touched[1] | touched[2] | touched[3]);
}

// From masks of cells, one per splat, to masks of splats, one per cell.
class CellLists {
 public:
  SPLAT_LANE void add(int splat, uint32_t cells) {
    const Words own = Words{} + cells, bit = Words{} + (uint64_t(1) << splat);
    for (int half = 0; half < 2; ++half)
      words_[half] |= (Words)((own & (Words{1, 2, 4, 8, 16, 32, 64, 128} << (8 * half))) != 0) & bit;
  }
  SPLAT_LANE void store(uint64_t* splats) const { std::memcpy(splats, words_, sizeof(words_)); }

 private:
  typedef uint64_t Words __attribute__((vector_size(64)));
  Words words_[2] = {};
};

// Calls visit(cell, place, pixel, count) for every row of every cell within the image: its first pixel's
// place in the cell and in a plane of the image, and how many pixels follow.
template <class T, class Visit>
SPLAT_LANE void for_cell_rows(const Tile<T>& tile, const Visit& visit) {
  const int columns = tile.width - tile.x, rows = tile.height - tile.y;
  const int64_t corner = int64_t(tile.y) * tile.width + tile.x;
  for (int y = 0; y < kTile && y < rows; ++y)
    for (int x = 0; x < kTile && x < columns; x += kCell)
      visit(y / kCell * kCellsAcross + x / kCell, y % kCell * kCell, corner + int64_t(y) * tile.width + x,
            columns - x < kCell ? columns - x : kCell);
}

template <class T>
SPLAT_LANE void copy_pixels(T* to, const T* from, int count) {
  if (count == kCell)
    std::memcpy(to, from, sizeof(T) * kCell);
  else
    for (int i = 0; i < count; ++i) to[i] = from[i];
}

// Copies a plane of an image into a tile's memory, whose cells are `stride` apart. Pixels outside the image
// are not written. The next tile is prefetched: rows of a tile are too short for the processor to do so.
template <class T>
void load_plane(const Tile<T>& tile, const T* plane, T* cells, int stride = kCellPixels) {
  if (tile.x + kTile < tile.width)
    for (int y = tile.y; y < tile.y + kTile && y < tile.height; ++y)
      __builtin_prefetch(plane + int64_t(y) * tile.width + tile.x + kTile);
  for_cell_rows(tile, [&](int cell, int place, int64_t pixel, int count) {
    copy_pixels(cells + cell * stride + place, plane + pixel, count);
  });
}

template <class T>
void store_plane(const Tile<T>& tile, const T* cells, T* plane, int stride = kCellPixels) {
  for_cell_rows(tile, [&](int cell, int place, int64_t pixel, int count) {
    copy_pixels(plane + pixel, cells + cell * stride + place, count);
  });
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

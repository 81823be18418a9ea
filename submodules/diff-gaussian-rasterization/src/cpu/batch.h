// A batch of a tile's splats: which of them reach which cell, what blending reads of them, and which cells
// they changed. With AVX-512 in single precision, 16 splats at a time. Compiled once per instruction set.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "cells.h"
#include "lane_rows.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

template <class T>
SPLAT_LANE Brush<T> brush_of(const Splat<T>& s) {
  return {s.x,     s.y,   T(0.5) * s.conic_xx, s.conic_xy, T(0.5) * s.conic_yy, s.opacity, s.depth, s.red,
          s.green, s.blue};
}

// The splats that reach each cell, or that changed it, bit by bit: [kCells].
struct CellMasks {
  uint64_t splats[kCells] = {};

  uint64_t anywhere() const {
    uint64_t all = 0;
    for (const uint64_t own : splats) all |= own;
    return all;
  }
};

// What blending reads of splat k of the batch.
template <class T>
SPLAT_LANE Brush<T> brush_at(const TileScratch<T>& scratch, int k) {
  const T* s = scratch.brushes[0] + k;
  const auto field = [&](int i) { return s[i * kBatch]; };
  return {field(0), field(1), field(2), field(3), field(4), field(5), field(6), field(7), field(8), field(9)};
}

// Brushes of Gaussians [begin, begin + count) of the tile's list, and the cells that they may reach.
template <class T>
SPLAT_LANE void prepare(const Tile<T>& tile, int64_t begin, int count, TileScratch<T>& scratch,
                        CellMasks& cells) {
  CellLists lists;
  for (int k = 0; k < count; ++k) {
    const Splat<T>& s = tile.splats[tile.gaussians[begin + k]];
    lists.add(k, touched_cells(s, tile.x, tile.y));
    const Brush<T> brush = brush_of(s);
    const T* const fields = &brush.x;
    for (int i = 0; i < kBrush; ++i) scratch.brushes[i][k] = fields[i];
  }
  lists.store(cells.splats);
}

#if defined(__AVX512F__)
// load_splats() reads the fields of a splat by their number, prepare() the first of them as those of a brush.
static_assert(sizeof(Splat<float>) == 64 && offsetof(Splat<float>, extent_x) == 40 &&
                  offsetof(Splat<float>, reach_y) == 60 && sizeof(Brush<float>) == kBrush * sizeof(float),
              "the order of a splat's fields");

// touched_cells() of 16 splats, whose fields are columns, into bits `first` to `first + 15` of each cell,
// in the order of its operations.
SPLAT_LANE void add_touched_cells(const Vec<float>* field, int tile_x, int tile_y, int first,
                                  CellMasks& cells) {
  using V = Vec<float>;
  const V zero(0.f), one(1.f), extent_x = field[10], slope_y = field[14], reach_y = field[15];
  const V tip = field[12] * field[11], inverse = select(extent_x > zero, one / extent_x, zero);
  const V slack = V(1e-2f) + V(1e-4f) * reach_y, top = field[1] - V(float(tile_y)) - V(0.5f);
  const V corner = V(tile_x + 0.5f) - field[0];
  const auto clamped = [](V a, V low, V high) { return minimum(maximum(a, low), high); };
  for (int column = 0; column < kCellsAcross; ++column) {
    const V left = V(float(column * kCell)) + corner, right = left + V(float(kCell - 1));
    const V low = maximum(left, -extent_x), high = minimum(right, extent_x);
    const V at_high = clamped(tip, low, high), at_low = clamped(-tip, low, high);
    const V h = at_high * inverse, l = at_low * inverse;
    const V above = reach_y * square_root(maximum(one - l * l, zero));
    const V below = reach_y * square_root(maximum(one - h * h, zero));
    const V begin = slope_y * at_low - above - slack + top, end = slope_y * at_high + below + slack + top;
    const Mask<float> inside = low <= high;
    for (int row = 0; row < kCellsAcross; ++row) {
      const Mask<float> touched =
          inside & (begin <= V(float(row * kCell + kCell - 1))) & (end >= V(float(row * kCell)));
      cells.splats[row * kCellsAcross + column] |= uint64_t(bits(touched)) << first;
    }
  }
}

// Fields of 16 splats, which lie scattered in memory, as columns.
SPLAT_LANE void load_splats(const Splat<float>* splats, const uint32_t* gaussians, int count,
                            Vec<float>* field) {
  const float* rows[16];
  for (int i = 0; i < 16; ++i) rows[i] = &splats[gaussians[i < count ? i : count - 1]].x;
  for (int quad = 0; quad < 16; quad += 4) load_quads_of([&](int i) { return rows[i] + quad; }, field + quad);
}

SPLAT_LANE void prepare(const Tile<float>& tile, int64_t begin, int count, TileScratch<float>& scratch,
                        CellMasks& cells) {
  using V = Vec<float>;
  for (int first = 0; first < count; first += V::kCount) {
    V field[16];
    load_splats(tile.splats, tile.gaussians + begin + first, count - first, field);
    add_touched_cells(field, tile.x, tile.y, first, cells);
    field[2] = field[2] * V(0.5f);
    field[4] = field[4] * V(0.5f);
    for (int k = 0; k < kBrush; ++k) field[k].store(scratch.brushes[k] + first);
  }
  const uint64_t given = ~uint64_t(0) >> (kBatch - count);
  for (uint64_t& own : cells.splats) own &= given;
}

// From masks of splats, one per cell, to masks of cells, one per splat.
SPLAT_LANE void store_hits(const CellMasks& changed, uint16_t* hits, int count) {
  alignas(64) uint16_t all[kBatch];
  for (int first = 0; first < kBatch; first += 16) {
    __m512i own = _mm512_setzero_si512();
    for (int cell = 0; cell < kCells; ++cell)
      own = _mm512_mask_or_epi32(own, __mmask16(changed.splats[cell] >> first), own,
                                 _mm512_set1_epi32(1 << cell));
    _mm256_store_si256(reinterpret_cast<__m256i*>(all + first), _mm512_cvtepi32_epi16(own));
  }
  std::memcpy(hits, all, sizeof(*hits) * count);
}
#else
SPLAT_LANE void store_hits(const CellMasks& changed, uint16_t* hits, int count) {
  std::memset(hits, 0, sizeof(*hits) * count);
  for (int cell = 0; cell < kCells; ++cell)
    for (uint64_t splats = changed.splats[cell]; splats; splats &= splats - 1)
      hits[__builtin_ctzll(splats)] |= uint16_t(1 << cell);
}
#endif

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

// A tile's pixels, and what a splat's alpha is there; fetching what lies scattered in memory. Compiled once
// per instruction set.
#pragma once

#include "cells.h"
// after simd.h: the blending functions call its exponential()
#include "splat/blend.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

template <class T>
SPLAT_LANE Vec<T> alpha_at(const Brush<T>& s, Vec<T> dx, Vec<T> dy) {
  const Vec<T> power = dx * (dx * Vec<T>(s.half_xx) + dy * Vec<T>(s.xy)) + dy * (dy * Vec<T>(s.half_yy));
  return splat_alpha<Vec<T>, T>(s.opacity, power);
}

// Pixel centres of a tile at the origin, in the order of cells.
template <class T>
struct Centres {
  alignas(64) T x[kTilePixels], y[kTilePixels];
};

template <class T>
constexpr Centres<T> centres() {
  Centres<T> c{};
  for (int i = 0; i < kTilePixels; ++i) {
    const int cell = i / kCellPixels, place = i % kCellPixels;
    c.x[i] = T(cell % kCellsAcross * kCell + place % kCell) + T(0.5);
    c.y[i] = T(cell / kCellsAcross * kCell + place / kCell) + T(0.5);
  }
  return c;
}
template <class T>
constexpr Centres<T> kCentres = centres<T>();

// Where the pixels are; those outside the image start out finished. Returns the cells within the image.
template <class T>
uint32_t start(const Tile<T>& tile, TileScratch<T>& scratch) {
  using V = Vec<T>;
  const V left(T(tile.x)), top(T(tile.y)), right(T(tile.width)), bottom(T(tile.height));
  uint32_t alive = 0;
  for (int i = 0; i < kTilePixels; i += V::kCount) {
    const V x = V::load(kCentres<T>.x + i) + left, y = V::load(kCentres<T>.y + i) + top;
    const Mask<T> inside = (x < right) & (y < bottom);
    x.store(scratch.x + i);
    y.store(scratch.y + i);
    select(inside, V(T(1)), V(T(-1))).store(scratch.transmittance + i);
    alive |= uint32_t(any(inside)) << (i / kCellPixels);
  }
  return alive;
}

// Splats and their features lie scattered in memory. Fetches some of the next batch.
template <class T>
SPLAT_LANE void prefetch(const Tile<T>& tile, int64_t begin, int64_t end, bool features) {
  for (int64_t index = begin; index < end && index < tile.count; ++index) {
    const int64_t gaussian = tile.gaussians[index];
    __builtin_prefetch(tile.splats + gaussian);
    if (sizeof(Splat<T>) > 64) __builtin_prefetch((const char*)(tile.splats + gaussian) + 64);
    if (!features) continue;
    const char* row = (const char*)(tile.features_in + gaussian * tile.channels);
    for (int64_t byte = 0; byte < int64_t(sizeof(T)) * tile.channels; byte += 64)
      __builtin_prefetch(row + byte, 0, 2);
  }
}

// Into a row of the batch; padding stays zero. Adds what is zero unless a feature is NaN or infinite.
template <class T>
SPLAT_LANE void copy_features(const Tile<T>& tile, TileScratch<T>& scratch, uint32_t gaussian, int k,
                              Vec<T>& suspicion) {
  using V = Vec<T>;
  const T* from = tile.features_in + int64_t(gaussian) * tile.channels;
  T* to = scratch.rows + k * tile.padded_channels;
  int c = 0;
  for (; c + V::kCount <= tile.channels; c += V::kCount) {
    const V values = V::load(from + c);
    values.store(to + c);
    suspicion = suspicion + values * V(T(0));
  }
  if (c == tile.channels) return;
  std::memcpy(to + c, from + c, sizeof(T) * (tile.channels - c));
  suspicion = suspicion + V::load(to + c) * V(T(0));
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

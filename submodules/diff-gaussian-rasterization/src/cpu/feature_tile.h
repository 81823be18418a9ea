// Features within one tile: products of small dense matrices, cell by cell. W are the weights of the splats
// of a batch that reach the cell, F their features, G the gradients of the cell's outputs: outputs += W^T F,
// dF += W G, and the gradients of the weights are F G^T.
#pragma once

#include "cells.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

// Accumulators held in registers at once: channels of one vector of pixels, or vectors of channels of four
// splats. AVX-512 has 32 registers, the others 16.
constexpr int kChannelBlock = kVectorBytes == 64 ? 16 : 8;
constexpr int kVectorBlock = kVectorBytes == 64 ? 4 : 2;
constexpr int kSplatBlock = 4;

// Some splats of a batch, padded to whole blocks with the zero splat behind its last.
struct SplatList {
  int count = 0;
  uint8_t splat[kBatch + kSplatBlock];

  SPLAT_LANE explicit SplatList(uint64_t splats) {
    for (; splats; splats &= splats - 1) splat[count++] = uint8_t(__builtin_ctzll(splats));
    while (count % kSplatBlock) splat[count++] = kBatch;
  }
};

// Numbers of some splats of a batch, for one vector of pixels: alphas, and their weights in the same place.
template <class T>
struct PixelList {
  alignas(64) T numbers[kBatch * Vec<T>::kCount];
  uint8_t splat[kBatch];
  int count;

  SPLAT_LANE void set(int i, int k, Vec<T> values) {
    values.store(numbers + i * Vec<T>::kCount);
    splat[i] = uint8_t(k);
  }

  SPLAT_LANE Vec<T> operator[](int i) const { return Vec<T>::load(numbers + i * Vec<T>::kCount); }
};

template <int Channels, class T>
SPLAT_LANE void accumulate_block(const PixelList<T>& list, const T* rows, int stride, T* planes) {
  using V = Vec<T>;
  V total[Channels];
  for (int c = 0; c < Channels; ++c) total[c] = V::load(planes + c * kCellPixels);
  for (int i = 0; i < list.count; ++i) {
    const V weight = list[i];
    const T* row = rows + list.splat[i] * stride;
    for (int c = 0; c < Channels; ++c) total[c] = total[c] + weight * V(row[c]);
  }
  for (int c = 0; c < Channels; ++c) total[c].store(planes + c * kCellPixels);
}

// planes[c] += sum over the list of weight * rows[splat][c], for one vector of pixels.
template <class T>
void accumulate(const PixelList<T>& list, const Tile<T>& tile, const T* rows, T* planes) {
  const int stride = tile.padded_channels;
  int c = 0;
  for (; c + kChannelBlock <= tile.channels; c += kChannelBlock)
    accumulate_block<kChannelBlock>(list, rows + c, stride, planes + c * kCellPixels);
  for (; c + 4 <= tile.channels; c += 4)
    accumulate_block<4>(list, rows + c, stride, planes + c * kCellPixels);
  for (; c < tile.channels; ++c) accumulate_block<1>(list, rows + c, stride, planes + c * kCellPixels);
}

template <int Vectors, class T>
SPLAT_LANE void collect_block(const uint8_t* splat, const T* weights, const T* pixels, int stride,
                              T* d_rows) {
  using V = Vec<T>;
  V total[kSplatBlock][Vectors];
  for (int e = 0; e < kSplatBlock; ++e)
    for (int k = 0; k < Vectors; ++k) total[e][k] = V::load(d_rows + splat[e] * stride + k * V::kCount);
  for (int pixel = 0; pixel < kCellPixels; ++pixel) {
    V g[Vectors];
    for (int k = 0; k < Vectors; ++k) g[k] = V::load(pixels + pixel * stride + k * V::kCount);
    for (int e = 0; e < kSplatBlock; ++e) {
      const V weight(weights[splat[e] * kTilePixels + pixel]);
      for (int k = 0; k < Vectors; ++k) total[e][k] = total[e][k] + weight * g[k];
    }
  }
  for (int e = 0; e < kSplatBlock; ++e)
    for (int k = 0; k < Vectors; ++k) total[e][k].store(d_rows + splat[e] * stride + k * V::kCount);
}

// d_rows[splat] += sum over the cell's pixels of weight * gradient.
template <class T>
void collect(const SplatList& list, const Tile<T>& tile, const TileScratch<T>& scratch, int cell) {
  constexpr int n = Vec<T>::kCount;
  const int stride = tile.padded_channels;
  const T* weights = scratch.weights + cell * kCellPixels;
  const T* pixels = scratch.pixels + int64_t(cell) * kCellPixels * stride;
  for (int i = 0; i < list.count; i += kSplatBlock) {
    const uint8_t* splat = list.splat + i;
    int c = 0;
    for (; c + kVectorBlock * n <= stride; c += kVectorBlock * n)
      collect_block<kVectorBlock>(splat, weights, pixels + c, stride, scratch.d_rows + c);
    for (; c < stride; c += n) collect_block<1>(splat, weights, pixels + c, stride, scratch.d_rows + c);
  }
}

// weights[splat] = sum_c gradient[c] * rows[splat][c] at the cell's pixels: the derivative of the loss by
// each weight through the feature outputs.
template <class T>
void feature_values(const SplatList& list, const Tile<T>& tile, const TileScratch<T>& scratch, int cell) {
  using V = Vec<T>;
  const int stride = tile.padded_channels;
  for (int place = 0; place < kCellPixels; place += V::kCount) {
    const T* planes = scratch.planes + int64_t(cell) * kCellPixels * stride + place;
    for (int i = 0; i < list.count; i += kSplatBlock) {
      V total[kSplatBlock];
      const T* rows[kSplatBlock];
      for (int e = 0; e < kSplatBlock; ++e) {
        total[e] = V(T(0));
        rows[e] = scratch.rows + list.splat[i + e] * stride;
      }
      for (int c = 0; c < tile.channels; ++c) {
        const V g = V::load(planes + c * kCellPixels);
        for (int e = 0; e < kSplatBlock; ++e) total[e] = total[e] + g * V(rows[e][c]);
      }
      for (int e = 0; e < kSplatBlock; ++e)
        total[e].store(scratch.weights + list.splat[i + e] * kTilePixels + cell * kCellPixels + place);
    }
  }
}

// Where a tile writes the feature gradient of the Gaussian at `index` of its list: into the next row, or
// straight into the Gaussian's gradient if it touches no other tile.
template <class T>
T* feature_gradient_row(const Tile<T>& tile, TileScratch<T>& scratch, int64_t index) {
  const uint32_t gaussian = tile.gaussians[index];
  if (tile.gaussian_begin[gaussian + 1] - tile.gaussian_begin[gaussian] == 1)
    return tile.d_features_in + int64_t(gaussian) * tile.channels;
  const int64_t row = tile.first_feature_gradient + scratch.used_feature_gradients++;
  tile.feature_gradient_of[index] = uint32_t(row);
  return tile.feature_gradients + row * tile.channels;
}

template <class T>
void write_features(const Tile<T>& tile, const TileScratch<T>& scratch) {
  const int64_t plane = int64_t(tile.width) * tile.height;
  for (int c = 0; c < tile.channels; ++c)
    store_plane(tile, scratch.planes + c * kCellPixels, tile.features + c * plane,
                tile.padded_channels * kCellPixels);
}

// Transposes planes to pixels, four channels of four pixels at a time.
template <class T>
void transpose_cells(const Tile<T>& tile, const TileScratch<T>& scratch) {
  const int stride = tile.padded_channels;
  for (int quad = 0; quad < kTilePixels / 4; ++quad) {
    const int cell = quad / 4, place = quad % 4 * 4;
    const T* from = scratch.planes + int64_t(cell) * stride * kCellPixels + place;
    T* to = scratch.pixels + int64_t(cell * kCellPixels + place) * stride;
    for (int c = 0; c < tile.channels; c += 4) {
      Quad<T> q[4];
      for (int i = 0; i < 4; ++i) std::memcpy(&q[i], from + (c + i) * kCellPixels, sizeof(q[i]));
      const Quad<T> a = __builtin_shufflevector(q[0], q[1], 0, 4, 1, 5);
      const Quad<T> b = __builtin_shufflevector(q[2], q[3], 0, 4, 1, 5);
      const Quad<T> d = __builtin_shufflevector(q[0], q[1], 2, 6, 3, 7);
      const Quad<T> e = __builtin_shufflevector(q[2], q[3], 2, 6, 3, 7);
      const Quad<T> pixels[] = {
          __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
          __builtin_shufflevector(d, e, 0, 1, 4, 5), __builtin_shufflevector(d, e, 2, 3, 6, 7)};
      for (int i = 0; i < 4; ++i) std::memcpy(to + i * stride + c, &pixels[i], sizeof(pixels[i]));
    }
  }
}

// Planes and pixels of the outputs' gradients, zeros outside the image.
template <class T>
void load_feature_gradients(const Tile<T>& tile, TileScratch<T>& scratch) {
  using V = Vec<T>;
  const int64_t plane = int64_t(tile.width) * tile.height;
  const int stride = tile.padded_channels * kCellPixels;
  if (tile.x + kTile > tile.width || tile.y + kTile > tile.height)
    std::memset(scratch.planes, 0, sizeof(T) * kCells * stride);
  for (int c = 0; c < tile.channels; ++c) {
    T* planes = scratch.planes + c * kCellPixels;
    load_plane(tile, tile.d_features + c * plane, planes, stride);
    if (!tile.features_move_geometry) continue;
    alignas(64) T shown[kTilePixels] = {};
    load_plane(tile, tile.features + c * plane, shown);
    for (int i = 0; i < kTilePixels; i += V::kCount) {
      const V g = V::load(planes + i / kCellPixels * stride + i % kCellPixels);
      (V::load(scratch.rest + i) + g * V::load(shown + i)).store(scratch.rest + i);
    }
  }
  if (tile.d_features_in) transpose_cells(tile, scratch);
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

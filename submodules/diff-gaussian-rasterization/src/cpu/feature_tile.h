// Features within one tile. A splat's contributing pixels are first packed into a list; then, channel block
// by channel block, its features stay in registers while the pixels' rows [padded_channels] pass by.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

constexpr int kBlock = 4;  // channel vectors held in registers at once

// Appends the contributing pixels of a row to the scratch's active list.
template <class T>
SPLAT_LANE int append_active(TileScratch<T>& scratch, int active, int pixel, Vec<T> weight) {
  return active + pack(weight > Vec<T>(T(0)), weight, pixel, scratch.active_weight + active,
                       scratch.active_pixel + active);
}

// The features of a Gaussian as whole vectors: in place, or copied into padded memory.
template <class T>
SPLAT_LANE const T* padded_features(const Tile<T>& tile, uint32_t gaussian, TileScratch<T>& scratch) {
  const T* in = tile.features_in + int64_t(gaussian) * tile.channels;
  if (tile.channels == tile.padded_channels) return in;
  std::memcpy(scratch.splat_features, in, sizeof(T) * tile.channels);
  return scratch.splat_features;
}

// Where one tile leaves the feature gradient of one of its entries.
template <class T>
SPLAT_LANE T* feature_gradient(const Tile<T>& tile, int64_t entry) {
  const uint32_t gaussian = tile.entries[entry];
  const int64_t* begin = tile.slot_begin + gaussian;
  if (begin[1] - begin[0] == 1) return tile.d_features_in + int64_t(gaussian) * tile.channels;
  const int64_t slot = tile.feature_slot_begin[gaussian] + (tile.slot_ids[entry] - begin[0]);
  return tile.feature_slots + slot * tile.channels;
}

// out[pixel] += weight * features, for `Vectors` channel vectors from channel `c`.
template <int Vectors, class T>
SPLAT_LANE void accumulate_block(const T* features, TileScratch<T>& scratch, int active, int stride, int c) {
  using V = Vec<T>;
  V feature[Vectors];
  for (int k = 0; k < Vectors; ++k) feature[k] = V::load(features + c + k * V::kCount);
  for (int i = 0; i < active; ++i) {
    T* out = scratch.features + scratch.active_pixel[i] * stride + c;
    const V weight(scratch.active_weight[i]);
    for (int k = 0; k < Vectors; ++k)
      (V::load(out + k * V::kCount) + weight * feature[k]).store(out + k * V::kCount);
  }
}

template <class T>
void accumulate(const T* features, TileScratch<T>& scratch, int active, int stride) {
  constexpr int n = Vec<T>::kCount;
  int c = 0;
  for (; c + kBlock * n <= stride; c += kBlock * n)
    accumulate_block<kBlock>(features, scratch, active, stride, c);
  const int rest = (stride - c) / n;
  if (rest == 3) accumulate_block<3>(features, scratch, active, stride, c);
  if (rest == 2) accumulate_block<2>(features, scratch, active, stride, c);
  if (rest == 1) accumulate_block<1>(features, scratch, active, stride, c);
}

// d_features = sum over active pixels of weight * d_out[pixel].
template <int Vectors, class T>
SPLAT_LANE void collect_block(T* d_features, const TileScratch<T>& scratch, int active, int stride, int c) {
  using V = Vec<T>;
  V total[Vectors];
  for (int k = 0; k < Vectors; ++k) total[k] = V(T(0));
  for (int i = 0; i < active; ++i) {
    const T* d_out = scratch.features + scratch.active_pixel[i] * stride + c;
    const V weight(scratch.active_weight[i]);
    for (int k = 0; k < Vectors; ++k) total[k] = total[k] + weight * V::load(d_out + k * V::kCount);
  }
  for (int k = 0; k < Vectors; ++k) total[k].store(d_features + c + k * V::kCount);
}

template <class T>
void collect(T* d_features, const TileScratch<T>& scratch, int active, int stride) {
  constexpr int n = Vec<T>::kCount;
  int c = 0;
  for (; c + kBlock * n <= stride; c += kBlock * n)
    collect_block<kBlock>(d_features, scratch, active, stride, c);
  const int rest = (stride - c) / n;
  if (rest == 3) collect_block<3>(d_features, scratch, active, stride, c);
  if (rest == 2) collect_block<2>(d_features, scratch, active, stride, c);
  if (rest == 1) collect_block<1>(d_features, scratch, active, stride, c);
}

// Collects straight into place, by way of padded memory when the channels are no whole vectors.
template <class T>
void collect_entry(const Tile<T>& tile, TileScratch<T>& scratch, int64_t entry, int active) {
  T* out = feature_gradient(tile, entry);
  if (tile.channels == tile.padded_channels) return collect(out, scratch, active, tile.padded_channels);
  T* padded = scratch.splat_features + tile.padded_channels;
  collect(padded, scratch, active, tile.padded_channels);
  std::memcpy(out, padded, sizeof(T) * tile.channels);
}

// sum_c g_c f_c at the contributing pixels of a row.
template <class T>
SPLAT_LANE Vec<T> feature_values(const T* features, const TileScratch<T>& scratch, int stride, int pixel,
                                 Vec<T> weight) {
  using V = Vec<T>;
  T values[V::kCount] = {};
  for (uint32_t left = bits(weight > V(T(0))); left; left &= left - 1) {
    const int lane = __builtin_ctz(left);
    const T* g = scratch.features + (pixel + lane) * stride;
    V total(T(0));
    for (int c = 0; c < stride; c += V::kCount) total = total + V::load(g + c) * V::load(features + c);
    values[lane] = sum(total);
  }
  return V::load(values);
}

template <class T>
void write_features(const Tile<T>& tile, const TileScratch<T>& scratch) {
  const int64_t plane = int64_t(tile.width) * tile.height;
  const int columns = tile.width - tile.x < kTile ? tile.width - tile.x : kTile;
  const int rows = tile.height - tile.y < kTile ? tile.height - tile.y : kTile;
  for (int c = 0; c < tile.channels; ++c)
    for (int y = 0; y < rows; ++y) {
      T* out = tile.features + c * plane + int64_t(tile.y + y) * tile.width + tile.x;
      for (int x = 0; x < columns; ++x) out[x] = scratch.features[(y * kTile + x) * tile.padded_channels + c];
    }
}

template <class T>
void load_feature_gradients(const Tile<T>& tile, TileScratch<T>& scratch) {
  const int64_t plane = int64_t(tile.width) * tile.height;
  const int columns = tile.width - tile.x < kTile ? tile.width - tile.x : kTile;
  const int rows = tile.height - tile.y < kTile ? tile.height - tile.y : kTile;
  std::memset(scratch.features, 0, sizeof(T) * kTilePixels * tile.padded_channels);
  for (int c = 0; c < tile.channels; ++c)
    for (int y = 0; y < rows; ++y) {
      const int64_t from = c * plane + int64_t(tile.y + y) * tile.width + tile.x;
      for (int x = 0; x < columns; ++x) {
        const int i = y * kTile + x;
        const T g = tile.d_features[from + x];
        scratch.features[i * tile.padded_channels + c] = g;
        if (tile.features_move_geometry) scratch.rest[i] += g * tile.features[from + x];
      }
    }
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

// Blending of one tile and its adjoint, a vector of pixels of one row at a time. Compiled once per
// instruction set.
#include "feature_tile.h"
#include "kernels_isa.h"
#include "simd.h"
// after simd.h: the blending functions call its exponential()
#include "splat/blend.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

constexpr int64_t kFinishedCheck = 16;  // entries between two looks at whether every pixel is finished

// A strip of a tile, one vector wide: the rows of it that a splat may reach, and the terms of the exponent
// that all of them share: power = base + dy (slope + dy half_yy).
template <class T>
struct Strip {
  int first, last;  // rows within the tile; empty when first > last
  Vec<T> dx, base, slope;
  T half_yy;
};

template <class T>
SPLAT_LANE Strip<T> strip_of(const Tile<T>& tile, const Splat<T>& s, int column) {
  Strip<T> strip;
  const T left = T(tile.x + column) + T(0.5) - s.x;
  const Span span = strip_span(s.slope_y, s.reach_y, s.extent_x, s.slope_x * s.extent_y, left,
                               left + T(Vec<T>::kCount - 1));
  strip.first = 1, strip.last = 0;
  if (span.low > span.high) return strip;
  const float top = float(s.y) - float(tile.y) - 0.5f;  // of the splat's centre, in rows
  const float low = span.low + top, high = span.high + top;
  if (!(high >= 0.f && low <= float(kTile - 1))) return strip;
  const int first = low > 0.f ? int(low) : 0;
  strip.first = first + (low > float(first));  // ceil
  strip.last = high < float(kTile - 1) ? int(high) : kTile - 1;
  strip.dx = Vec<T>::indices() + Vec<T>(left);
  strip.base = strip.dx * strip.dx * Vec<T>(T(0.5) * s.conic_xx);
  strip.slope = strip.dx * Vec<T>(s.conic_xy);
  strip.half_yy = T(0.5) * s.conic_yy;
  return strip;
}

template <class T>
SPLAT_LANE Vec<T> row_alpha(const Strip<T>& strip, const Splat<T>& s, T dy) {
  const Vec<T> power = strip.base + Vec<T>(dy) * (strip.slope + Vec<T>(dy * strip.half_yy));
  return splat_alpha<Vec<T>, T>(s.opacity, power);
}

// Pixels outside the image start out finished.
template <class T>
void start(const Tile<T>& tile, TileScratch<T>& scratch) {
  for (int i = 0; i < kTilePixels; ++i) {
    const bool inside = tile.x + i % kTile < tile.width && tile.y + i / kTile < tile.height;
    scratch.transmittance[i] = inside ? T(1) : T(-1);
  }
}

template <class T>
bool all_finished(const TileScratch<T>& scratch) {
  Vec<T> largest = Vec<T>::load(scratch.transmittance);
  for (int i = Vec<T>::kCount; i < kTilePixels; i += Vec<T>::kCount)
    largest = maximum(largest, Vec<T>::load(scratch.transmittance + i));
  return !any(largest > Vec<T>(T(0)));
}

// Splats and their features lie scattered in memory: fetch those of the entries to come.
template <bool Features, class T>
SPLAT_LANE void prefetch(const Tile<T>& tile, int64_t entry) {
  if (entry + 4 < tile.count) __builtin_prefetch(tile.splats + tile.entries[entry + 4]);
  if (!Features || entry + 2 >= tile.count) return;
  const char* features = (const char*)(tile.features_in + int64_t(tile.entries[entry + 2]) * tile.channels);
  for (int64_t byte = 0; byte < int64_t(sizeof(T)) * tile.channels; byte += 64)
    __builtin_prefetch(features + byte);
}

template <class T>
SPLAT_LANE void add(T* to, Vec<T> value) {
  (Vec<T>::load(to) + value).store(to);
}

// One splat over the tile: forward. The splat is a copy, which no store into the scratch can change.
template <bool Color, bool Features, class T>
SPLAT_LANE int render_splat(const Tile<T>& tile, const Splat<T> s, TileScratch<T>& scratch) {
  using V = Vec<T>;
  int active = 0;
  const T first_dy = T(tile.y) + T(0.5) - s.y;
  for (int column = 0; column < kTile; column += V::kCount) {
    const Strip<T> strip = strip_of(tile, s, column);
    for (int row = strip.first; row <= strip.last; ++row) {
      const int pixel = row * kTile + column;
      const V alpha = row_alpha(strip, s, first_dy + T(row));
      const Blend<V> b = blend<V, T>(alpha, V::load(scratch.transmittance + pixel));
      b.transmittance.store(scratch.transmittance + pixel);
      if constexpr (Color) {
        add(scratch.color[0] + pixel, b.weight * V(s.red));
        add(scratch.color[1] + pixel, b.weight * V(s.green));
        add(scratch.color[2] + pixel, b.weight * V(s.blue));
        add(scratch.color[3] + pixel, b.weight * V(s.depth));
      }
      if constexpr (Features) active = append_active(scratch, active, pixel, b.weight);
    }
  }
  return active;
}

template <class T>
void write_color(const Tile<T>& tile, const TileScratch<T>& scratch) {
  const int64_t plane = int64_t(tile.width) * tile.height;
  for (int i = 0; i < kTilePixels; ++i) {
    const int x = tile.x + i % kTile, y = tile.y + i / kTile;
    if (x >= tile.width || y >= tile.height) continue;
    const int64_t p = int64_t(y) * tile.width + x;
    const T t = scratch.transmittance[i] < 0 ? -scratch.transmittance[i] : scratch.transmittance[i];
    const T alpha = T(1) - t;
    for (int c = 0; c < 3; ++c) tile.rgb[c * plane + p] = scratch.color[c][i] + t * tile.background[c];
    tile.alpha[p] = alpha;
    tile.depth[p] = alpha > 0 ? scratch.color[3][i] / alpha : T(0);
  }
}

template <bool Color, bool Features, class T>
int64_t render_tile(const Tile<T>& tile, TileScratch<T>& scratch) {
  start(tile, scratch);
  if constexpr (Color) std::memset(scratch.color, 0, sizeof(scratch.color));
  if constexpr (Features) {
    std::memset(scratch.features, 0, sizeof(T) * kTilePixels * tile.padded_channels);
    std::memset(scratch.splat_features, 0, sizeof(T) * tile.padded_channels);
  }
  int64_t e = 0;
  for (; e < tile.count; ++e) {
    if (e % kFinishedCheck == 0 && all_finished(scratch)) break;
    prefetch<Features>(tile, e);
    const uint32_t gaussian = tile.entries[e];
    const int active = render_splat<Color, Features>(tile, tile.splats[gaussian], scratch);
    if (Features && active)
      accumulate(padded_features(tile, gaussian, scratch), scratch, active, tile.padded_channels);
  }
  if constexpr (Color) write_color(tile, scratch);
  if constexpr (Features) write_features(tile, scratch);
  return e;
}

// Loads the gradients of a tile's pixels. With weights w_i and per-splat values v_i = sum_c g_c c_i the loss
// is, to first order, sum_i w_i v_i: `constant` is the part of v that all splats share, `rest` that sum.
template <class T>
void load_color_gradients(const Tile<T>& tile, TileScratch<T>& scratch) {
  const int64_t plane = int64_t(tile.width) * tile.height;
  std::memset(scratch.color, 0, sizeof(scratch.color));
  for (int i = 0; i < kTilePixels; ++i) {
    const int x = tile.x + i % kTile, y = tile.y + i / kTile;
    scratch.constant[i] = scratch.rest[i] = 0;
    if (x >= tile.width || y >= tile.height) continue;
    const int64_t p = int64_t(y) * tile.width + x;
    const T alpha = tile.alpha[p];
    T constant = tile.d_alpha ? tile.d_alpha[p] : T(0), rest = constant * alpha;
    for (int c = 0; c < 3 && tile.d_rgb; ++c) {
      // rgb = sum w c + (1 - alpha) background, alpha = sum w
      const T g = tile.d_rgb[c * plane + p], shown = tile.rgb[c * plane + p];
      scratch.color[c][i] = g;
      constant -= g * tile.background[c];
      rest += g * (shown - tile.background[c]);
    }
    if (tile.d_depth && alpha > 0) {
      // depth = sum w z / sum w: v = g (z - depth) / alpha, whose weighted sum is zero
      const T g = tile.d_depth[p] / alpha;
      scratch.color[3][i] = g;
      constant -= g * tile.depth[p];
    }
    scratch.constant[i] = constant;
    scratch.rest[i] = rest;
  }
}

// One splat over the tile: backward. Front to back again, so that the weights are those of the forward pass.
template <bool Color, bool Features, bool FeatureGeometry, class T>
SPLAT_LANE int render_splat_backward(const Tile<T>& tile, const Splat<T> s, const T* features,
                                     TileScratch<T>& scratch, T* slot) {
  using V = Vec<T>;
  constexpr bool kGeometry = Color || FeatureGeometry;
  int active = 0;
  const T first_dy = T(tile.y) + T(0.5) - s.y;
  V sums[kSlotSize];
  for (V& each : sums) each = V(T(0));
  for (int column = 0; column < kTile; column += V::kCount) {
    const Strip<T> strip = strip_of(tile, s, column);
    // dx is the same in every row: sum h, h dy and h dy^2 over rows first.
    V h0(T(0)), h1(T(0)), h2(T(0));
    for (int row = strip.first; row <= strip.last; ++row) {
      const int pixel = row * kTile + column;
      const T dy = first_dy + T(row);
      const V alpha = row_alpha(strip, s, dy);
      const Blend<V> b = blend<V, T>(alpha, V::load(scratch.transmittance + pixel));
      b.transmittance.store(scratch.transmittance + pixel);
      if constexpr (Features) active = append_active(scratch, active, pixel, b.weight);
      if constexpr (kGeometry) {
        V value = V::load(scratch.constant + pixel);
        if constexpr (Color) {
          const V red = V::load(scratch.color[0] + pixel), green = V::load(scratch.color[1] + pixel);
          const V blue = V::load(scratch.color[2] + pixel), depth = V::load(scratch.color[3] + pixel);
          value = value + V(s.red) * red + V(s.green) * green + V(s.blue) * blue + V(s.depth) * depth;
          sums[kDRed] = sums[kDRed] + b.weight * red;
          sums[kDGreen] = sums[kDGreen] + b.weight * green;
          sums[kDBlue] = sums[kDBlue] + b.weight * blue;
          sums[kDDepth] = sums[kDDepth] + b.weight * depth;
        }
        if constexpr (FeatureGeometry)
          value = value + feature_values(features, scratch, tile.padded_channels, pixel, b.weight);
        const V rest = V::load(scratch.rest + pixel) - b.weight * value;
        rest.store(scratch.rest + pixel);
        const V h = power_adjoint<V, T>(alpha, b, value, rest);
        h0 = h0 + h;
        h1 = h1 + h * V(dy);
        h2 = h2 + h * V(dy * dy);
      }
    }
    if (kGeometry && strip.first <= strip.last) {
      const V h0x = h0 * strip.dx;
      sums[kH] = sums[kH] + h0;
      sums[kHx] = sums[kHx] + h0x;
      sums[kHy] = sums[kHy] + h1;
      sums[kHxx] = sums[kHxx] + h0x * strip.dx;
      sums[kHxy] = sums[kHxy] + h1 * strip.dx;
      sums[kHyy] = sums[kHyy] + h2;
    }
  }
  if constexpr (kGeometry)
    for (int k = 0; k < kSlotSize; k += 4) store_sums(sums + k, slot + k);
  return active;
}

// Entries that the forward pass did not reach have no gradient.
template <class T>
void clear_slots(const Tile<T>& tile) {
  for (int64_t e = tile.processed; e < tile.count; ++e) {
    const int64_t slot = tile.slot_ids[e];
    if (tile.slots) std::memset(tile.slots + slot * kSlotSize, 0, sizeof(T) * kSlotSize);
    if (tile.d_features_in) std::memset(feature_gradient(tile, e), 0, sizeof(T) * tile.channels);
  }
}

template <bool Color, bool Features, bool FeatureGeometry, class T>
void render_tile_backward(const Tile<T>& tile, TileScratch<T>& scratch) {
  start(tile, scratch);
  if constexpr (Color) {
    load_color_gradients(tile, scratch);
  } else {
    std::memset(scratch.constant, 0, sizeof(scratch.constant));
    std::memset(scratch.rest, 0, sizeof(scratch.rest));
  }
  if constexpr (Features) {
    load_feature_gradients(tile, scratch);
    std::memset(scratch.splat_features, 0, sizeof(T) * 2 * tile.padded_channels);
  }
  for (int64_t e = 0; e < tile.processed; ++e) {
    prefetch<FeatureGeometry>(tile, e);
    const uint32_t gaussian = tile.entries[e];
    const int64_t slot = tile.slot_ids[e];
    const T* features = FeatureGeometry ? padded_features(tile, gaussian, scratch) : nullptr;
    const int active = render_splat_backward<Color, Features, FeatureGeometry>(
        tile, tile.splats[gaussian], features, scratch, tile.slots + slot * kSlotSize);
    if (Features && tile.d_features_in) collect_entry(tile, scratch, e, active);
  }
  clear_slots(tile);
}

template <class T>
int64_t render_any(const Tile<T>& tile, TileScratch<T>& scratch) {
  const bool features = tile.features_in != nullptr;
  if (tile.color && features) return render_tile<true, true>(tile, scratch);
  if (tile.color) return render_tile<true, false>(tile, scratch);
  return render_tile<false, true>(tile, scratch);
}

template <class T>
void render_backward_any(const Tile<T>& tile, TileScratch<T>& scratch) {
  const bool features = tile.d_features != nullptr;
  const bool geometry = features && tile.features_move_geometry;
  if (tile.color && geometry) return render_tile_backward<true, true, true>(tile, scratch);
  if (tile.color && features) return render_tile_backward<true, true, false>(tile, scratch);
  if (tile.color) return render_tile_backward<true, false, false>(tile, scratch);
  if (geometry) return render_tile_backward<false, true, true>(tile, scratch);
  render_tile_backward<false, true, false>(tile, scratch);
}

}  // namespace

int64_t render_float(const Tile<float>& tile, TileScratch<float>& scratch) {
  return render_any(tile, scratch);
}
int64_t render_double(const Tile<double>& tile, TileScratch<double>& scratch) {
  return render_any(tile, scratch);
}
void render_backward_float(const Tile<float>& tile, TileScratch<float>& scratch) {
  render_backward_any(tile, scratch);
}
void render_backward_double(const Tile<double>& tile, TileScratch<double>& scratch) {
  render_backward_any(tile, scratch);
}

}  // namespace SPLAT_ISA
}  // namespace splat

// The adjoint of blending one tile, in batches of splats, splat by splat: its sums stay in registers for all
// its cells. Compiled once per instruction set.
#include "batch.h"
#include "feature_tile.h"
#include "kernels_isa.h"
#include "pixels.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

// Loads the gradients of the outputs into scratch: g_c per channel, the constant part of sum_c g_c c, and the
// weighted sum of all of it behind the camera.
template <class T>
void load_color_gradients(const Tile<T>& tile, TileScratch<T>& scratch) {
  using V = Vec<T>;
  const int64_t plane = int64_t(tile.width) * tile.height;
  alignas(64) T alphas[kTilePixels] = {}, shown[kTilePixels] = {};
  std::memset(scratch.color, 0, sizeof(scratch.color));
  load_plane(tile, tile.alpha, alphas);
  if (tile.d_alpha) load_plane(tile, tile.d_alpha, scratch.constant);
  for (int i = 0; i < kTilePixels; i += V::kCount)
    (V::load(scratch.constant + i) * V::load(alphas + i)).store(scratch.rest + i);
  for (int c = 0; c < 3 && tile.d_rgb; ++c) {
    // rgb = sum w c + (1 - alpha) background, alpha = sum w
    const V background(tile.background[c]);
    load_plane(tile, tile.d_rgb + c * plane, scratch.color[c]);
    load_plane(tile, tile.rgb + c * plane, shown);
    for (int i = 0; i < kTilePixels; i += V::kCount) {
      const V g = V::load(scratch.color[c] + i);
      (V::load(scratch.constant + i) - g * background).store(scratch.constant + i);
      (V::load(scratch.rest + i) + g * (V::load(shown + i) - background)).store(scratch.rest + i);
    }
  }
  if (!tile.d_depth) return;
  load_plane(tile, tile.d_depth, scratch.color[3]);
  load_plane(tile, tile.depth, shown);
  for (int i = 0; i < kTilePixels; i += V::kCount) {
    // depth = sum w z / sum w: v = g (z - depth) / alpha, whose weighted sum is zero
    const V alpha = V::load(alphas + i);
    const V g = select(alpha > V(T(0)), V::load(scratch.color[3] + i) / alpha, V(T(0)));
    g.store(scratch.color[3] + i);
    (V::load(scratch.constant + i) - g * V::load(shown + i)).store(scratch.constant + i);
  }
}

// Splats of a batch that changed a pixel, at most kGroup.
template <class T>
struct Group {
  int count = 0, cells = 0;
  int64_t index[kGroup + 1];       // in the tile's list
  uint32_t hits[kGroup + 1] = {};  // the cells that each changed; one more is read than there are splats
  Brush<T> brushes[kGroup + 1];

  SPLAT_LANE void add(const Tile<T>& tile, int64_t at) {
    index[count] = at;
    hits[count] = tile.hits[at];
    brushes[count] = brush_of(tile.splats[tile.gaussians[at]]);
    cells += __builtin_popcount(tile.hits[at]);
    count += tile.hits[at] != 0;  // without a branch
  }
};

// The alphas of the splats at the cells that they changed, zero where they are too small to count, and their
// odds: splat by splat and cell by cell. A loop of its own, as list_alphas().
template <class T>
SPLAT_LANE void store_alphas(const Group<T>& group, TileScratch<T>& scratch) {
  using V = Vec<T>;
  uint32_t left = group.hits[0];
  for (int at = 0, k = 0; at < group.cells * kCellPixels;) {
    const Brush<T>& s = group.brushes[k];
    const int corner = __builtin_ctz(left) * kCellPixels;
    for (int pixel = corner; pixel < corner + kCellPixels; pixel += V::kCount, at += V::kCount) {
      const V alpha = alpha_at(s, V::load(scratch.x + pixel) - V(s.x), V::load(scratch.y + pixel) - V(s.y));
      select(alpha >= V(T(kMinAlpha)), alpha, V(T(0))).store(scratch.alphas + at);
      odds_of(alpha).store(scratch.odds + at);
    }
    left &= left - 1;
    k += left == 0;
    left = left ? left : group.hits[k];
  }
}

// The adjoint of one splat over the cells that it hit, front to back, so that the weights are those of the
// forward pass: see LightOf. Its alphas begin at number `at` of the scratch memory. `weights` [kTilePixels]
// hold feature_values() on entry and the weights on return.
template <bool Color, bool Features, bool FeatureGeometry, class T>
SPLAT_LANE void render_splat_backward(TileScratch<T>& scratch, const Brush<T>& s, uint32_t cells, int at,
                                      T* weights, T* gradients) {
  using V = Vec<T>;
  constexpr bool kGeometry = Color || FeatureGeometry;
  V sums[kGradients];
  for (V& each : sums) each = V(T(0));
  for (; cells; cells &= cells - 1) {
    const int corner = __builtin_ctz(cells) * kCellPixels;
    for (int pixel = corner; pixel < corner + kCellPixels; pixel += V::kCount, at += V::kCount) {
      const V dx = V::load(scratch.x + pixel) - V(s.x), dy = V::load(scratch.y + pixel) - V(s.y);
      const V alpha = V::load(scratch.alphas + at), light = V::load(scratch.transmittance + pixel);
      const V reflected = alpha * light, behind = light - reflected;
      behind.store(scratch.transmittance + pixel);
      const V weight = select(behind >= V(T(kMinTransmittance)), reflected, V(T(0)));
      if constexpr (kGeometry) {
        V value = V::load(scratch.constant + pixel);
        if constexpr (Color) {
          const V red = V::load(scratch.color[0] + pixel), green = V::load(scratch.color[1] + pixel);
          const V blue = V::load(scratch.color[2] + pixel), depth = V::load(scratch.color[3] + pixel);
          value = value + V(s.red) * red + V(s.green) * green + V(s.blue) * blue + V(s.depth) * depth;
          sums[kDRed] = sums[kDRed] + weight * red;
          sums[kDGreen] = sums[kDGreen] + weight * green;
          sums[kDBlue] = sums[kDBlue] + weight * blue;
          sums[kDDepth] = sums[kDDepth] + weight * depth;
        }
        if constexpr (FeatureGeometry) value = value + V::load(weights + pixel);
        const V rest = V::load(scratch.rest + pixel) - weight * value;
        rest.store(scratch.rest + pixel);
        const V odds = V::load(scratch.odds + at);
        const V h = power_adjoint<V, T>(alpha, odds, weight, value, rest), hx = h * dx, hy = h * dy;
        sums[kH] = sums[kH] + h;
        sums[kHx] = sums[kHx] + hx;
        sums[kHy] = sums[kHy] + hy;
        sums[kHxx] = sums[kHxx] + hx * dx;
        sums[kHxy] = sums[kHxy] + hx * dy;
        sums[kHyy] = sums[kHyy] + hy * dy;
      }
      if constexpr (Features) weight.store(weights + pixel);
    }
  }
  if constexpr (kGeometry)
    for (int k = 0; k < kGradients; k += 4) store_sums(sums + k, gradients + k);
}

// Splats [first, first + count) of the batch that begins at `begin`.
template <bool Color, bool Features, bool FeatureGeometry, class T>
SPLAT_LANE void render_group_backward(const Tile<T>& tile, TileScratch<T>& scratch, int64_t begin, int first,
                                      int count) {
  Group<T> group;
  for (int64_t index = begin + first; index < begin + first + count; ++index) {
    prefetch(tile, index + kGroup, index + kGroup + 1, false);
    group.add(tile, index);
  }
  store_alphas(group, scratch);
  for (int k = 0, at = 0; k < group.count; ++k) {
    const int64_t index = group.index[k];
    render_splat_backward<Color, Features, FeatureGeometry>(scratch, group.brushes[k], group.hits[k], at,
                                                            scratch.weights + (index - begin) * kTilePixels,
                                                            tile.gradients + index * kGradientStride);
    at += __builtin_popcount(group.hits[k]) * kCellPixels;
  }
}

template <bool Color, bool Features, bool FeatureGeometry, class T>
void render_batch_backward(const Tile<T>& tile, TileScratch<T>& scratch, int64_t begin, int count) {
  CellLists lists;
  Vec<T> ignored(T(0));
  if constexpr (Features) {
    for (int k = 0; k < count; ++k) {
      const uint32_t cells = tile.hits[begin + k];
      lists.add(k, cells);
      if (FeatureGeometry && cells) copy_features(tile, scratch, tile.gaussians[begin + k], k, ignored);
    }
  }
  uint64_t splats[kCells];
  lists.store(splats);
  for (int cell = 0; FeatureGeometry && cell < kCells; ++cell)
    feature_values(SplatList(splats[cell]), tile, scratch, cell);
  for (int k = 0; k < count; k += kGroup)
    render_group_backward<Color, Features, FeatureGeometry>(tile, scratch, begin, k,
                                                            count - k < kGroup ? count - k : kGroup);
  if (!Features || !tile.d_features_in) return;
  std::memset(scratch.d_rows, 0, sizeof(T) * count * tile.padded_channels);
  for (int cell = 0; cell < kCells; ++cell) collect(SplatList(splats[cell]), tile, scratch, cell);
  for (int k = 0; k < count; ++k)
    if (tile.hits[begin + k])
      std::memcpy(feature_gradient_row(tile, scratch, begin + k), scratch.d_rows + k * tile.padded_channels,
                  sizeof(T) * tile.channels);
}

template <bool Color, bool Features, bool FeatureGeometry, class T>
void render_tile_backward(const Tile<T>& tile, TileScratch<T>& scratch) {
  start(tile, scratch);
  std::memset(scratch.constant, 0, sizeof(scratch.constant));
  std::memset(scratch.rest, 0, sizeof(scratch.rest));
  if constexpr (Color) load_color_gradients(tile, scratch);
  if constexpr (Features) load_feature_gradients(tile, scratch);
  scratch.used_feature_gradients = 0;
  for (int64_t e = 0; e < tile.processed; e += kBatch) {
    const int count = int(tile.processed - e < kBatch ? tile.processed - e : kBatch);
    render_batch_backward<Color, Features, FeatureGeometry>(tile, scratch, e, count);
  }
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

void render_backward_float(const Tile<float>& tile, TileScratch<float>& scratch) {
  render_backward_any(tile, scratch);
}
void render_backward_double(const Tile<double>& tile, TileScratch<double>& scratch) {
  render_backward_any(tile, scratch);
}

}  // namespace SPLAT_ISA
}  // namespace splat

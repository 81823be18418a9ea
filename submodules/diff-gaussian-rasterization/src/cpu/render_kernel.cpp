// Blending of one tile and its adjoint, in batches of splats. Forward, cell by cell: a vector of pixels stays
// in registers for all splats of the batch. Backward, splat by splat: its sums stay in registers for all its
// cells. Compiled once per instruction set.
#include "batch.h"
#include "feature_tile.h"
#include "kernels_isa.h"
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

// Lists Gaussians until there are `wanted`, or no more.
template <class T>
void find_intersections(Tile<T>& tile, int64_t wanted) {
  TileSearch& s = tile.search;
  constexpr int n = kVectorBytes / 4;
  for (; tile.count < wanted && s.next + n <= s.visible; s.next += n)
    tile.count += pick(s.order + s.next, s.bits + s.next, s.bit, tile.gaussians + tile.count);
  for (; tile.count < wanted && s.next < s.visible; ++s.next)
    if (s.bits[s.next] & s.bit) tile.gaussians[tile.count++] = s.order[s.next];
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

// The features of some splats of the batch that begins at `begin`.
template <class T>
SPLAT_LANE void copy_features(const Tile<T>& tile, TileScratch<T>& scratch, int64_t begin, uint64_t splats) {
  Vec<T> suspicion(T(0));
  for (; splats; splats &= splats - 1) {
    const int k = __builtin_ctzll(splats);
    copy_features(tile, scratch, tile.gaussians[begin + k], k, suspicion);
  }
  if (any(!(suspicion == Vec<T>(T(0))))) scratch.features_finite = false;
}

// Transmittance of one vector of pixels, splat by splat: blend() of all lanes. What a splat leaves of the
// light is computed whether or not it contributes: it only falls, so that a pixel whose light is below the
// least transmittance stays finished. Splats wait for one product and one difference of the splat before
// them, and for no comparison.
template <class T>
class LightOf {
 public:
  // Finished pixels have a negative transmittance.
  SPLAT_LANE explicit LightOf(Vec<T> transmittance)
      : light_(maximum(transmittance, Vec<T>(T(0)))),
        kept_(-negative(transmittance)),
        open_(enough(light_)) {}

  // Whether the splat counts in a pixel that is not finished. To be called before weight_of().
  SPLAT_LANE bool reached(Vec<T> alpha) const { return any((alpha > Vec<T>(T(0))) & open_); }

  // Blends a splat whose alpha is zero where it is too small to count.
  SPLAT_LANE Vec<T> weight_of(Vec<T> alpha) {
    const Vec<T> zero(T(0)), weight = alpha * light_;
    light_ = light_ - weight;
    open_ = enough(light_);
    kept_ = select(open_, light_, kept_);
    return select(open_, weight, zero);
  }

  SPLAT_LANE bool left() const { return any(open_); }
  SPLAT_LANE Vec<T> transmittance() const { return select(open_, kept_, -kept_); }

 private:
  static SPLAT_LANE Mask<T> enough(Vec<T> light) { return light >= Vec<T>(T(kMinTransmittance)); }

  Vec<T> light_, kept_;
  Mask<T> open_;
};

// The alphas of splats at one vector of pixels, zero where they are too small to count. In a loop of its own:
// the processor overlaps more of these long computations than with blending between them.
template <class T>
SPLAT_LANE void list_alphas(const TileScratch<T>& scratch, int first, uint64_t splats, PixelList<T>& list) {
  using V = Vec<T>;
  const V x = V::load(scratch.x + first), y = V::load(scratch.y + first);
  int count = 0;
  for (; splats; splats &= splats - 1) {
    const int k = __builtin_ctzll(splats);
    const Brush<T> s = brush_at(scratch, k);
    const V alpha = alpha_at(s, x - V(s.x), y - V(s.y));
    list.set(count++, k, select(alpha >= V(T(kMinAlpha)), alpha, V(T(0))));
  }
  list.count = count;
}

// Blends the splats of a batch that reach a cell into one vector of its pixels; adds to `changed` those that
// changed one. False when all are finished.
template <bool Color, bool Features, class T>
SPLAT_LANE bool render_pixels(const Tile<T>& tile, TileScratch<T>& scratch, int first, uint64_t splats,
                              uint64_t& changed) {
  using V = Vec<T>;
  PixelList<T> list;
  list_alphas(scratch, first, splats, list);
  LightOf<T> light(V::load(scratch.transmittance + first));
  V color[4];
  for (int c = 0; Color && c < 4; ++c) color[c] = V::load(scratch.color[c] + first);
  int kept = 0;
  for (int i = 0, count = list.count; i < count; ++i) {
    const int k = list.splat[i];
    const Brush<T> s = brush_at(scratch, k);
    const V alpha = list[i];
    const bool changes = light.reached(alpha);
    const V weight = light.weight_of(alpha);
    changed |= uint64_t(changes) << k;
    if constexpr (Color) {
      color[0] = color[0] + weight * V(s.red);
      color[1] = color[1] + weight * V(s.green);
      color[2] = color[2] + weight * V(s.blue);
      color[3] = color[3] + weight * V(s.depth);
    }
    if constexpr (Features) {
      list.set(kept, k, weight);
      kept += changes;  // without a branch
    }
  }
  list.count = kept;
  light.transmittance().store(scratch.transmittance + first);
  for (int c = 0; Color && c < 4; ++c) color[c].store(scratch.color[c] + first);
  if constexpr (Features) {
    T* planes = scratch.planes + int64_t(first / kCellPixels) * tile.padded_channels * kCellPixels +
                first % kCellPixels;
    accumulate(list, tile, scratch.rows, planes);
  }
  return light.left();
}

// Blends Gaussians [begin, begin + count) of the list. Returns which of the cells `alive` are unfinished.
template <bool Color, bool Features, class T>
uint32_t render_batch(const Tile<T>& tile, TileScratch<T>& scratch, int64_t begin, int count,
                      uint32_t alive) {
  CellMasks reached, changed;
  prepare(tile, begin, count, scratch, reached);
  for (int cell = 0; cell < kCells; ++cell)
    if (!(alive >> cell & 1)) reached.splats[cell] = 0;
  if constexpr (Features) copy_features(tile, scratch, begin, reached.anywhere());
  for (int cell = 0; cell < kCells; ++cell) {
    constexpr int each = kBatch / kCells;
    const int64_t next = begin + kBatch + cell * each;
    prefetch(tile, next, next + each, Features);
    const uint64_t splats = reached.splats[cell];
    if (!splats) continue;
    bool unfinished = false;
    uint64_t own = 0;
    for (int place = 0; place < kCellPixels; place += Vec<T>::kCount)
      unfinished |= render_pixels<Color, Features>(tile, scratch, cell * kCellPixels + place, splats, own);
    changed.splats[cell] = own;
    if (!unfinished) alive &= ~(1u << cell);
  }
  store_hits(changed, tile.hits + begin, count);
  return alive;
}

template <class T>
void write_color(const Tile<T>& tile, TileScratch<T>& scratch) {
  using V = Vec<T>;
  alignas(64) T alphas[kTilePixels];
  for (int i = 0; i < kTilePixels; i += V::kCount) {
    const V t = -negative(V::load(scratch.transmittance + i)), alpha = V(T(1)) - t;
    for (int c = 0; c < 3; ++c)
      (V::load(scratch.color[c] + i) + t * V(tile.background[c])).store(scratch.color[c] + i);
    const V depth = V::load(scratch.color[3] + i);
    select(alpha > V(T(0)), depth / alpha, V(T(0))).store(scratch.color[3] + i);
    alpha.store(alphas + i);
  }
  const int64_t plane = int64_t(tile.width) * tile.height;
  for (int c = 0; c < 3; ++c) store_plane(tile, scratch.color[c], tile.rgb + c * plane);
  store_plane(tile, scratch.color[3], tile.depth);
  store_plane(tile, alphas, tile.alpha);
}

template <bool Color, bool Features, class T>
int64_t render_tile(Tile<T>& tile, TileScratch<T>& scratch) {
  uint32_t alive = start(tile, scratch);
  if constexpr (Color) std::memset(scratch.color, 0, sizeof(scratch.color));
  if constexpr (Features) std::memset(scratch.planes, 0, sizeof(T) * kTilePixels * tile.padded_channels);
  if (tile.search.order) find_intersections(tile, kBatch);
  prefetch(tile, 0, kBatch, Features);
  int64_t e = 0;
  for (; e < tile.count && alive; e += kBatch) {
    if (tile.search.order) find_intersections(tile, e + 2 * kBatch);
    const int count = int(tile.count - e < kBatch ? tile.count - e : kBatch);
    alive = render_batch<Color, Features>(tile, scratch, e, count, alive);
  }
  if constexpr (Color) write_color(tile, scratch);
  if constexpr (Features) write_features(tile, scratch);
  tile.open = alive != 0;
  if (e >= tile.count) return tile.count;
  std::memset(tile.hits + e, 0, sizeof(*tile.hits) * (tile.count - e));
  return e;
}

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
  int64_t index[kGroup + 1];  // in the tile's list
  uint32_t hits[kGroup + 1];  // the cells that each changed
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
int64_t render_any(Tile<T>& tile, TileScratch<T>& scratch) {
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

int64_t render_float(Tile<float>& tile, TileScratch<float>& scratch) { return render_any(tile, scratch); }
int64_t render_double(Tile<double>& tile, TileScratch<double>& scratch) { return render_any(tile, scratch); }
void render_backward_float(const Tile<float>& tile, TileScratch<float>& scratch) {
  render_backward_any(tile, scratch);
}
void render_backward_double(const Tile<double>& tile, TileScratch<double>& scratch) {
  render_backward_any(tile, scratch);
}

}  // namespace SPLAT_ISA
}  // namespace splat

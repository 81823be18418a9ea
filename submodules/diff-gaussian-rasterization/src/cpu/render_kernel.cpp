// Blending of one tile in batches of splats, cell by cell: a vector of pixels stays in registers for all
// splats of the batch. Compiled once per instruction set.
#include "batch.h"
#include "feature_tile.h"
#include "kernels_isa.h"
#include "pixels.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

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

template <class T>
int64_t render_any(Tile<T>& tile, TileScratch<T>& scratch) {
  const bool features = tile.features_in != nullptr;
  if (tile.color && features) return render_tile<true, true>(tile, scratch);
  if (tile.color) return render_tile<true, false>(tile, scratch);
  return render_tile<false, true>(tile, scratch);
}

}  // namespace

int64_t render_float(Tile<float>& tile, TileScratch<float>& scratch) { return render_any(tile, scratch); }
int64_t render_double(Tile<double>& tile, TileScratch<double>& scratch) { return render_any(tile, scratch); }

}  // namespace SPLAT_ISA
}  // namespace splat

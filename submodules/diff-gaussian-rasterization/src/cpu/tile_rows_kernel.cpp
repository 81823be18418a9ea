// The tiles that splats touch: touched_rows() and touched_columns() for several splats at a time.
// Compiled once per instruction set.
#include "kernels_isa.h"
#include "lane_tiles.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

template <class T>
SPLAT_LANE Vec<T> clamped(Vec<T> a, Vec<T> low, Vec<T> high) {
  return select(a < low, low, select(a > high, high, a));
}

// The fields of a group of splats that bound them.
template <class T>
struct LaneBounds {
  Vec<T> x, y, extent_x, extent_y, slope_x, reach_x, tip;

  SPLAT_LANE LaneBounds(const Splat<T>* splats, const uint32_t* gaussians, int lanes) {
    constexpr int n = Vec<T>::kCount;
    T column[7][n];
    for (int l = 0; l < n; ++l) {
      const Splat<T>& s = splats[gaussians[l < lanes ? l : lanes - 1]];
      const T fields[] = {s.x, s.y, s.extent_x, s.extent_y, s.slope_x, s.reach_x, s.slope_y * s.extent_x};
      for (int k = 0; k < 7; ++k) column[k][l] = fields[k];
    }
    Vec<T>* const members[] = {&x, &y, &extent_x, &extent_y, &slope_x, &reach_x, &tip};
    for (int k = 0; k < 7; ++k) *members[k] = Vec<T>::load(column[k]);
  }

  // strip_span() over the rows of pixels of the lanes' rows of tiles.
  SPLAT_LANE LaneRange<T> columns(Vec<T> row, Mask<T> wanted, int tiles_x) const {
    const Vec<T> zero(T(0)), one(T(1)), top = row * Vec<T>(T(kTile)) + Vec<T>(T(0.5)) - y;
    const Vec<T> low = maximum(top, -extent_y), high = minimum(top + Vec<T>(T(kTile - 1)), extent_y);
    const Vec<T> inverse = select(extent_y > zero, one / extent_y, zero);
    const Vec<T> at_high = clamped(tip, low, high), at_low = clamped(-tip, low, high);
    const Vec<T> h = at_high * inverse, l = at_low * inverse;
    const Vec<T> slack = Vec<T>(T(1e-2)) + Vec<T>(T(1e-4)) * reach_x;
    const Vec<T> before = x - slack - reach_x * square_root(maximum(one - l * l, zero));
    const Vec<T> behind = x + slack + reach_x * square_root(maximum(one - h * h, zero));
    return tiles_between(before + slope_x * at_low, behind + slope_x * at_high, wanted & (low <= high),
                         tiles_x);
  }
};

template <class T>
SPLAT_LANE void store_integers(Vec<T> values, int32_t* out) {
  typedef int32_t Out __attribute__((vector_size(4 * Vec<T>::kCount)));
  const Out integers = __builtin_convertvector(values.v, Out);
  std::memcpy(out, &integers, sizeof(integers));
}

// One group of lanes, from splat i of the block on.
template <class T>
SPLAT_LANE void find_group(const Raster<T>& raster, const LaneBounds<T>& s, int i, TileRows& out) {
  using V = Vec<T>;
  const V slack(T(0.01)), one(T(1));
  const LaneRange<T> rows = tiles_between(s.y - s.extent_y - slack, s.y + s.extent_y + slack,
                                          s.extent_x >= V(T(0)), raster.tiles_y);
  const V count = rows.last - rows.first + one;
  store_integers(rows.first, out.first + i);
  store_integers(count, out.count + i);
  // Within one row of tiles a splat's box is as tight as its ellipse.
  const LaneRange<T> box =
      tiles_between(s.x - s.extent_x - slack, s.x + s.extent_x + slack, count == one, raster.tiles_x);
  store_integers(box.first, out.columns[0].first + i);
  store_integers(box.last, out.columns[0].last + i);
  const Mask<T> several = count > one;
  Mask<T> wanted = several;
  for (int row = 0; row < TileRows::kRows && any(wanted); ++row, wanted = count > V(T(row))) {
    LaneRange<T> columns = s.columns(rows.first + V(T(row)), wanted, raster.tiles_x);
    if (row == 0)
      columns = {select(several, columns.first, box.first), select(several, columns.last, box.last)};
    store_integers(columns.first, out.columns[row].first + i);
    store_integers(columns.last, out.columns[row].last + i);
  }
}

template <class T>
void find_any(const Raster<T>& raster, const Splat<T>* splats, const uint32_t* gaussians, int count,
              TileRows& out) {
  constexpr int n = Vec<T>::kCount;
  for (int i = 0; i < count; i += n)
    find_group(raster, LaneBounds<T>(splats, gaussians + i, count - i < n ? count - i : n), i, out);
}

}  // namespace

void find_rows_float(const Raster<float>& raster, const Splat<float>* splats, const uint32_t* gaussians,
                     int count, TileRows& out) {
  find_any(raster, splats, gaussians, count, out);
}
void find_rows_double(const Raster<double>& raster, const Splat<double>* splats, const uint32_t* gaussians,
                      int count, TileRows& out) {
  find_any(raster, splats, gaussians, count, out);
}

}  // namespace SPLAT_ISA
}  // namespace splat

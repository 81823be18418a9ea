// The tiles that a splat touches: exactly those in which its ellipse reaches the span of the pixel centres.
#pragma once

#include "splat/footprint.h"

namespace splat {

struct Range {
  int first, last;  // empty when first > last
};

// The tiles of one axis whose pixel centres, in [t c + 0.5, t c + t - 0.5] for tile c of t pixels, meet
// [low, high].
SPLAT_HD Range tiles_between(float low, float high, int tile, int tiles) {
  const float inverse = 1.f / float(tile);  // exact: tiles are powers of two
  low = (low - (float(tile) - 0.5f)) * inverse;
  high = (high - 0.5f) * inverse;
  if (!(high >= 0.f && low <= float(tiles - 1))) return {1, 0};
  const int whole = low > 0.f ? int(low) : 0;
  return {whole + (low > float(whole)), high < float(tiles - 1) ? int(high) : tiles - 1};
}

template <class T>
SPLAT_HD Range touched_rows(const Splat<T>& s, int tile, int tiles_y) {
  if (!(s.extent_x >= 0)) return {1, 0};
  return tiles_between(float(s.y - s.extent_y) - 0.01f, float(s.y + s.extent_y) + 0.01f, tile, tiles_y);
}

// The tile columns that a splat touches in tile row `row`.
template <class T>
SPLAT_HD Range touched_columns(const Splat<T>& s, int tile, int tiles_x, int row) {
  const T top = T(row * tile) + T(0.5) - s.y;
  const Span span =
      strip_span(s.slope_x, s.reach_x, s.extent_y, product(s.slope_y, s.extent_x), top, top + T(tile - 1));
  if (span.low > span.high) return {1, 0};
  return tiles_between(span.low + float(s.x), span.high + float(s.x), tile, tiles_x);
}

}  // namespace splat

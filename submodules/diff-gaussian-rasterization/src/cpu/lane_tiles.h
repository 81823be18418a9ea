// The tiles between two coordinates, for several splats at a time, and the tiles of a small raster as bits.
// Compiled once per instruction set.
#pragma once

#include <cstring>
#include <type_traits>

#include "kernels.h"
#include "simd.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

template <class T>
struct LaneRange {
  Vec<T> first, last;  // whole numbers; empty when first > last
};

// Towards zero.
template <class T>
SPLAT_LANE Vec<T> whole_part(Vec<T> a) {
  using Ints = typename Vec<T>::Ints;
  return __builtin_convertvector(__builtin_convertvector(a.v, Ints), typename Vec<T>::Values);
}

// tiles_between(); the lanes that are not `wanted` are empty, whatever they hold.
template <class T>
SPLAT_LANE LaneRange<T> tiles_between(Vec<T> low, Vec<T> high, Mask<T> wanted, int tiles) {
  const Vec<T> zero(T(0)), last_tile(T(tiles - 1));
  low = (low - Vec<T>(T(kTile) - T(0.5))) * Vec<T>(T(1) / kTile);
  high = (high - Vec<T>(T(0.5))) * Vec<T>(T(1) / kTile);
  wanted = wanted & (high >= zero) & (low <= last_tile);
  low = minimum(maximum(low, zero), last_tile);
  const Vec<T> floor = whole_part(low), last = whole_part(maximum(minimum(high, last_tile), zero));
  const Vec<T> first = floor + select(low > floor, Vec<T>(T(1)), zero);
  return {select(wanted, first, Vec<T>(T(1))), select(wanted, last, zero)};
}

// One word of the tiles that each lane's bounding box touches: TileBits.
template <class T>
SPLAT_LANE void store_tile_bits(const TileBits& all, int word, const LaneRange<T>& columns,
                                const LaneRange<T>& rows, uint32_t* out, int lanes) {
  typedef std::make_unsigned_t<typename IntOf<T>::type> Word;
  typedef Word Words __attribute__((vector_size(kVectorBytes)));
  using Ints = typename Vec<T>::Ints;
  const Ints left = __builtin_convertvector(columns.first.v, Ints);
  const Ints right = __builtin_convertvector(columns.last.v, Ints);
  const Words across = ((Words{} + 2) << (Words)right) - ((Words{} + 1) << (Words)left);
  Words bits = {};
  for (int row = 0; row < all.rows; ++row) {
    const T at(word * all.rows + row);
    const Ints touched = (rows.first.v <= at) & (rows.last.v >= at);
    bits |= across << Word(row * all.tiles_x) & (Words)touched;
  }
  typedef uint32_t Out __attribute__((vector_size(4 * Vec<T>::kCount)));
  const Out stored = __builtin_convertvector(bits, Out);
  std::memcpy(out, &stored, sizeof(uint32_t) * lanes);
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

#include "binning.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace splat {
namespace {

template <class T>
struct KeyOf;
template <>
struct KeyOf<float> {
  using type = uint32_t;
};
template <>
struct KeyOf<double> {
  using type = uint64_t;
};

constexpr int kDigitBits = 11;
constexpr int kDigits = 1 << kDigitBits;

template <class Key>
struct Item {
  Key key;
  uint32_t index;
};

// One stable pass of a radix sort; false when every key has the same digit and nothing needs to move.
template <class Key>
bool radix_pass(const std::vector<Item<Key>>& from, std::vector<Item<Key>>& to, int shift) {
  std::vector<int64_t> begin(kDigits + 1, 0);
  for (const Item<Key>& item : from) ++begin[(item.key >> shift & (kDigits - 1)) + 1];
  if (std::find(begin.begin(), begin.end(), int64_t(from.size())) != begin.end()) return false;
  for (int digit = 0; digit < kDigits; ++digit) begin[digit + 1] += begin[digit];
  for (const Item<Key>& item : from) to[begin[item.key >> shift & (kDigits - 1)]++] = item;
  return true;
}

// Tile columns [first, last] that a splat touches in tile row `row`; empty when first > last.
struct Columns {
  int first, last;
};

template <class T>
Columns touched_columns(const Raster<T>& raster, const Splat<T>& s, int row) {
  const T top = T(row * kTile) + T(0.5) - s.y;
  const Span span =
      strip_span(s.slope_x, s.reach_x, s.extent_y, s.slope_y * s.extent_x, top, top + T(kTile - 1));
  if (span.low > span.high) return {1, 0};
  // A tile's pixel centres lie in [16 c + 0.5, 16 c + 15.5].
  const float low = (span.low + float(s.x) - (kTile - 0.5f)) / kTile;
  const float high = (span.high + float(s.x) - 0.5f) / kTile;
  if (!(high >= 0.f && low <= float(raster.tiles_x - 1))) return {1, 0};
  return {low > 0.f ? int(std::ceil(low)) : 0,
          high < float(raster.tiles_x - 1) ? int(high) : raster.tiles_x - 1};
}

struct Rows {
  int first, last;
};

template <class T>
Rows touched_rows(const Raster<T>& raster, const Splat<T>& s) {
  if (!(s.extent_x >= 0)) return {1, 0};
  const float low = (float(s.y - s.extent_y) - 0.01f - (kTile - 0.5f)) / kTile;
  const float high = (float(s.y + s.extent_y) + 0.01f - 0.5f) / kTile;
  if (!(high >= 0.f && low <= float(raster.tiles_y - 1))) return {1, 0};
  return {low > 0.f ? int(std::ceil(low)) : 0,
          high < float(raster.tiles_y - 1) ? int(high) : raster.tiles_y - 1};
}

// Calls visit(row, columns) for every tile row that a splat touches.
template <class T, class Visit>
void for_touched_rows(const Raster<T>& raster, const Splat<T>& s, const Visit& visit) {
  const Rows rows = touched_rows(raster, s);
  for (int row = rows.first; row <= rows.last; ++row) {
    const Columns columns = touched_columns(raster, s, row);
    if (columns.first <= columns.last) visit(row, columns);
  }
}

// The tiles of one row that a Gaussian touches.
struct TileSpan {
  uint32_t gaussian;
  int row;
  Columns columns;
};

constexpr int64_t kPrefetch = 8;  // Gaussians ahead: in depth order they lie scattered in memory

[[noreturn]] void too_many(int64_t pairs, int64_t limit) {
  throw std::length_error("the Gaussians touch " + std::to_string(pairs) +
                          " tiles in all, more than max_pairs = " + std::to_string(limit) +
                          ": render fewer or smaller Gaussians or a smaller image, or raise the limit");
}

}  // namespace

template <class T>
std::vector<uint32_t> sort_by_depth(const T* depths, int64_t count) {
  using Key = typename KeyOf<T>::type;
  std::vector<Item<Key>> items, buffer;
  items.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    if (!(depths[i] >= 0)) continue;
    Key key;  // the bits of a non-negative float order like the number
    std::memcpy(&key, depths + i, sizeof(key));
    items.push_back({key, uint32_t(i)});
  }
  buffer.resize(items.size());
  for (int shift = 0; shift < int(8 * sizeof(Key)); shift += kDigitBits)
    if (radix_pass(items, buffer, shift)) items.swap(buffer);
  std::vector<uint32_t> order(items.size());
  for (size_t i = 0; i < items.size(); ++i) order[i] = items[i].index;
  return order;
}

template <class T>
TileLists bin(const Raster<T>& raster, const Splat<T>* splats, int64_t count,
              const std::vector<uint32_t>& order, int64_t max_pairs, Team& team) {
  const int64_t tiles = int64_t(raster.tiles_x) * raster.tiles_y;
  const int64_t shares = team.size(), visible = int64_t(order.size());
  const auto share_begin = [&](int64_t share) { return visible * share / shares; };
  TileLists lists;
  lists.slot_begin.assign(count + 1, 0);
  // Each member counts a stretch of the depth order. Whatever the number of members, the lists are the same.
  std::vector<std::vector<int64_t>> counts(shares);
  std::vector<std::vector<TileSpan>> spans(shares);
  team.each(shares, [&](int64_t share, int) {
    const int64_t begin = share_begin(share), end = share_begin(share + 1);
    const int64_t stride = raster.tiles_x + 1;  // differences along a row: spans cost two increments
    std::vector<int64_t> steps(stride * raster.tiles_y, 0);
    spans[share].reserve(3 * (end - begin));
    int64_t pairs = 0;
    for (int64_t i = begin; i < end; ++i) {
      if (i + kPrefetch < end) __builtin_prefetch(splats + order[i + kPrefetch]);
      const Splat<T>& s = splats[order[i]];
      const int64_t before = pairs;
      for_touched_rows(raster, s, [&](int row, Columns columns) {
        ++steps[row * stride + columns.first];
        --steps[row * stride + columns.last + 1];
        pairs += columns.last - columns.first + 1;
        // Beyond the limit only the count matters, for the message.
        if (pairs <= max_pairs) spans[share].push_back({order[i], row, columns});
      });
      lists.slot_begin[order[i] + 1] = pairs - before;
    }
    counts[share].resize(tiles);
    for (int row = 0; row < raster.tiles_y; ++row) {
      int64_t running = 0;
      for (int column = 0; column < raster.tiles_x; ++column)
        counts[share][int64_t(row) * raster.tiles_x + column] = running += steps[row * stride + column];
    }
  });
  for (int64_t i = 0; i < count; ++i) lists.slot_begin[i + 1] += lists.slot_begin[i];
  const int64_t pairs = lists.slot_begin[count];
  if (pairs > std::min<int64_t>(max_pairs, UINT32_MAX)) too_many(pairs, max_pairs);
  lists.tile_begin.resize(tiles + 1);
  int64_t running = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    lists.tile_begin[tile] = running;
    for (int64_t share = 0; share < shares; ++share) {
      const int64_t own = counts[share][tile];
      counts[share][tile] = running;  // from here on: where this member writes next
      running += own;
    }
  }
  lists.tile_begin[tiles] = running;
  lists.entries = Buffer<uint32_t>(pairs);
  lists.slot_ids = Buffer<uint32_t>(pairs);
  lists.processed.assign(tiles, 0);
  team.each(shares, [&](int64_t share, int) {
    int64_t* next = counts[share].data();
    int64_t slot = 0;
    uint32_t gaussian = UINT32_MAX;
    for (const TileSpan& span : spans[share]) {
      if (span.gaussian != gaussian) {
        gaussian = span.gaussian;
        slot = lists.slot_begin[gaussian];
      }
      for (int column = span.columns.first; column <= span.columns.last; ++column) {
        const int64_t at = next[int64_t(span.row) * raster.tiles_x + column]++;
        lists.entries[at] = gaussian;
        lists.slot_ids[at] = uint32_t(slot++);
      }
    }
  });
  return lists;
}

template std::vector<uint32_t> sort_by_depth(const float*, int64_t);
template std::vector<uint32_t> sort_by_depth(const double*, int64_t);
template TileLists bin(const Raster<float>&, const Splat<float>*, int64_t, const std::vector<uint32_t>&,
                       int64_t, Team&);
template TileLists bin(const Raster<double>&, const Splat<double>*, int64_t, const std::vector<uint32_t>&,
                       int64_t, Team&);

}  // namespace splat

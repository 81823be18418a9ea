#include "binning.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "touched_tiles.h"

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

constexpr int64_t kPrefetch = 32;  // Gaussians ahead: in depth order they lie scattered in memory

// Calls visit(gaussian) for those of one member's stretch of the depth order.
template <class Visit>
void visit_in_order(const std::vector<uint32_t>& order, const TouchedTiles& touched, int64_t share,
                    int64_t shares, const Visit& visit) {
  const int64_t visible = int64_t(order.size()), end = visible * (share + 1) / shares;
  for (int64_t i = visible * share / shares; i < end; ++i) {
    if (i + kPrefetch < end) touched.prefetch(order[i + kPrefetch]);
    visit(order[i]);
  }
}

[[noreturn]] void too_many(int64_t pairs, int64_t limit) {
  throw std::length_error("the Gaussians touch " + std::to_string(pairs) +
                          " tiles in all, more than max_pairs = " + std::to_string(limit) +
                          ": render fewer or smaller Gaussians or a smaller image, or raise the limit");
}

// Finds the touched tiles of all Gaussians and where their slots begin, [N + 1].
template <class T>
std::vector<int64_t> find_tiles(const Raster<T>& raster, const Splat<T>* splats, int64_t count,
                                int64_t max_pairs, Team& team, TouchedTiles& touched) {
  const int64_t chunks = (count + kGaussianChunk - 1) / kGaussianChunk;
  std::vector<int64_t> slot_begin(count + 1, 0);
  std::atomic<int64_t> found{0};
  team.each(chunks, [&](int64_t chunk, int) {
    // Beyond the limit only the count matters, for the message.
    const bool keep = found.load(std::memory_order_relaxed) <= max_pairs;
    found += touched.find(raster, splats, chunk, slot_begin.data() + 1, keep);
  });
  if (found > std::min<int64_t>(max_pairs, UINT32_MAX)) too_many(found, max_pairs);
  touched.add_up();
  team.each(chunks, [&](int64_t chunk, int) {
    const int64_t end = std::min((chunk + 1) * kGaussianChunk, count);
    for (int64_t i = chunk * kGaussianChunk; i < end; ++i) slot_begin[i + 1] += touched.chunk_slot(chunk);
  });
  return slot_begin;
}

// How many Gaussians of a member's stretch touch each tile, [tiles].
template <class T>
std::vector<int64_t> count_pairs(const Raster<T>& raster, const TouchedTiles& touched,
                                 const std::vector<uint32_t>& order, int64_t share, int64_t shares) {
  const int64_t stride = raster.tiles_x + 1;  // differences along a row: a range costs two increments
  std::vector<int64_t> steps(stride * raster.tiles_y, 0), counts;
  visit_in_order(order, touched, share, shares, [&](uint32_t gaussian) {
    touched.visit_rows(gaussian, [&](int row, Range columns) {
      ++steps[row * stride + columns.first];
      --steps[row * stride + columns.last + 1];
    });
  });
  counts.reserve(int64_t(raster.tiles_x) * raster.tiles_y);
  for (int row = 0; row < raster.tiles_y; ++row) {
    int64_t running = 0;
    for (int column = 0; column < raster.tiles_x; ++column)
      counts.push_back(running += steps[row * stride + column]);
  }
  return counts;
}

// From how many pairs each member has in each tile, [members][tiles], to where it writes its next one: tile
// by tile, and within a tile member by member, so the lists are the same whatever the number of members.
// Returns the number of all.
int64_t places(std::vector<std::vector<int64_t>>& counts, int64_t tiles) {
  int64_t running = 0;
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (std::vector<int64_t>& own : counts) running += std::exchange(own[tile], running);
  return running;
}

// Writes the pairs of a member's stretch; `next` says where those of each tile go.
template <class T>
void list_pairs(const Raster<T>& raster, const TouchedTiles& touched, const std::vector<uint32_t>& order,
                int64_t share, int64_t shares, int64_t* next, const TileLists& lists) {
  visit_in_order(order, touched, share, shares, [&](uint32_t gaussian) {
    uint32_t* position = lists.positions.data() + touched.slot(gaussian);
    touched.visit_rows(gaussian, [&](int row, Range columns) {
      for (int column = columns.first; column <= columns.last; ++column) {
        const int64_t at = next[int64_t(row) * raster.tiles_x + column]++;
        lists.entries[at] = gaussian;
        *position++ = uint32_t(at);
      }
    });
  });
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
  const int64_t tiles = int64_t(raster.tiles_x) * raster.tiles_y, shares = team.size();
  TouchedTiles touched(count);
  TileLists lists;
  lists.slot_begin = find_tiles(raster, splats, count, max_pairs, team, touched);
  std::vector<std::vector<int64_t>> next(shares);
  team.each(shares,
            [&](int64_t share, int) { next[share] = count_pairs(raster, touched, order, share, shares); });
  const int64_t pairs = places(next, tiles);
  lists.tile_begin = next[0];
  lists.tile_begin.push_back(pairs);
  lists.entries = Buffer<uint32_t>(pairs);
  lists.positions = Buffer<uint32_t>(pairs);
  lists.hits = Buffer<uint16_t>(pairs);
  lists.processed.assign(tiles, 0);
  team.each(shares, [&](int64_t share, int) {
    list_pairs(raster, touched, order, share, shares, next[share].data(), lists);
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

#include "binning.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
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

constexpr int64_t kPrefetch = 16;  // Gaussians ahead: in depth order they lie scattered in memory

// Calls visit(gaussian) for those of one share, a stretch of the depth order.
template <class Visit>
void visit_in_order(const std::vector<uint32_t>& order, const TouchedTiles& touched, int64_t share,
                    int64_t shares, const Visit& visit) {
  const int64_t visible = int64_t(order.size()), end = visible * (share + 1) / shares;
  for (int64_t i = visible * share / shares; i < end; ++i) {
    if (i + 2 * kPrefetch < end) touched.prefetch_place(order[i + 2 * kPrefetch]);
    if (i + kPrefetch < end) touched.prefetch_tiles(order[i + kPrefetch]);
    visit(order[i]);
  }
}

[[noreturn]] void too_many(int64_t pairs, int64_t limit) {
  throw std::length_error("the Gaussians touch " + std::to_string(pairs) +
                          " tiles in all, more than max_pairs = " + std::to_string(limit) +
                          ": render fewer or smaller Gaussians or a smaller image, or raise the limit");
}

// Gaussians with depth >= 0, nearest first; equal depths keep their order.
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

// One raster while it is binned.
template <class T>
struct Bins {
  Splatted<T> in;
  TouchedTiles touched;
  TileLists lists;
  std::atomic<int64_t> found{0};           // pairs
  std::vector<std::vector<int64_t>> next;  // [shares][tiles] where the next pair of each share goes

  Bins(const Splatted<T>& raster, int64_t count, int64_t shares) : in(raster), touched(count), next(shares) {
    lists.slot_begin = Buffer<int64_t>(count + 1);
    lists.slot_begin[0] = 0;
  }
  int64_t tiles() const { return int64_t(in.raster.tiles_x) * in.raster.tiles_y; }
};

template <class T>
using AllBins = std::vector<std::unique_ptr<Bins<T>>>;

// Sorts by depth while it finds the tiles that the Gaussians touch.
template <class T>
std::vector<uint32_t> sort_and_find(const AllBins<T>& all, const T* depths, int64_t count, int64_t max_pairs,
                                    const Kernels<T>& kernels, Team& team) {
  const int64_t chunks = (count + kGaussianChunk - 1) / kGaussianChunk;
  std::vector<uint32_t> order;
  team.each(1 + chunks * int64_t(all.size()), [&](int64_t item, int) {
    if (item == 0) {
      order = sort_by_depth(depths, count);
      return;
    }
    Bins<T>& bins = *all[(item - 1) / chunks];
    // Beyond the limit only the count matters, for the message.
    const bool keep = bins.found.load(std::memory_order_relaxed) <= max_pairs;
    bins.found += bins.touched.find(bins.in.raster, bins.in.splats, kernels, (item - 1) % chunks,
                                    bins.lists.slot_begin.data() + 1, keep);
  });
  for (const auto& bins : all)
    if (bins->found > std::min<int64_t>(max_pairs, UINT32_MAX)) too_many(bins->found, max_pairs);
  return order;
}

// From where a Gaussian's slots begin in its chunk to where they begin among all, [N + 1].
template <class T>
void place_slots(Bins<T>& bins, int64_t chunk) {
  int64_t* begin = bins.lists.slot_begin.data();
  const int64_t end = std::min((chunk + 1) * kGaussianChunk, int64_t(bins.lists.slot_begin.size()) - 1);
  for (int64_t i = chunk * kGaussianChunk; i < end; ++i) begin[i + 1] += bins.touched.chunk_slot(chunk);
}

// How many Gaussians of a share touch each tile, [tiles].
std::vector<int64_t> count_pairs(int64_t tiles, const TouchedTiles& touched,
                                 const std::vector<uint32_t>& order, int64_t share, int64_t shares) {
  std::vector<int64_t> counts(tiles, 0);
  visit_in_order(order, touched, share, shares, [&](uint32_t gaussian) {
    for (const uint32_t tile : touched.of(gaussian)) ++counts[tile];
  });
  return counts;
}

// From how many pairs each share has in each tile, [shares][tiles], to where its next one goes: tile by tile,
// and within a tile share by share, so the lists are the same whatever the number of shares.
// Returns the number of all.
int64_t places(std::vector<std::vector<int64_t>>& counts, int64_t tiles) {
  int64_t running = 0;
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (std::vector<int64_t>& own : counts) running += std::exchange(own[tile], running);
  return running;
}

// Makes room for the pairs once they have been counted.
template <class T>
void allocate(Bins<T>& bins) {
  const int64_t pairs = places(bins.next, bins.tiles());
  TileLists& lists = bins.lists;
  lists.tile_begin = bins.next[0];
  lists.tile_begin.push_back(pairs);
  lists.entries = Buffer<uint32_t>(pairs);
  lists.positions = Buffer<uint32_t>(pairs);
  lists.hits = Buffer<uint16_t>(pairs);
  lists.processed.assign(bins.tiles(), 0);
}

// Writes the pairs of a share; `next` says where those of each tile go.
void list_pairs(const TouchedTiles& touched, const std::vector<uint32_t>& order, int64_t share,
                int64_t shares, int64_t* next, const TileLists& lists) {
  visit_in_order(order, touched, share, shares, [&](uint32_t gaussian) {
    uint32_t* position = lists.positions.data() + touched.slot(gaussian);
    for (const uint32_t tile : touched.of(gaussian)) {
      const int64_t at = next[tile]++;
      lists.entries[at] = gaussian;
      *position++ = uint32_t(at);
    }
  });
}

}  // namespace

template <class T>
std::vector<TileLists> bin(const std::vector<Splatted<T>>& rasters, const T* depths, int64_t count,
                           int64_t max_pairs, const Kernels<T>& kernels, Team& team) {
  // Near Gaussians touch more tiles: with two stretches for each member nobody waits long for the first.
  const int64_t shares = team.size() == 1 ? 1 : 2 * team.size();
  const int64_t chunks = (count + kGaussianChunk - 1) / kGaussianChunk;
  AllBins<T> all;
  for (const Splatted<T>& raster : rasters) all.push_back(std::make_unique<Bins<T>>(raster, count, shares));
  const int64_t layers = int64_t(all.size());
  const std::vector<uint32_t> order = sort_and_find(all, depths, count, max_pairs, kernels, team);
  for (const auto& bins : all) bins->touched.add_up();
  // Slots are placed by the way, while whoever is done counts.
  team.each(layers * (shares + chunks), [&](int64_t item, int) {
    Bins<T>& bins = *all[item % layers];
    const int64_t share = item / layers;
    if (share < shares)
      bins.next[share] = count_pairs(bins.tiles(), bins.touched, order, share, shares);
    else
      place_slots(bins, share - shares);
  });
  for (const auto& bins : all) allocate(*bins);
  team.each(layers * shares, [&](int64_t item, int) {
    Bins<T>& bins = *all[item % layers];
    const int64_t share = item / layers;
    list_pairs(bins.touched, order, share, shares, bins.next[share].data(), bins.lists);
  });
  std::vector<TileLists> lists;
  for (const auto& bins : all) lists.push_back(std::move(bins->lists));
  return lists;
}

template std::vector<TileLists> bin(const std::vector<Splatted<float>>&, const float*, int64_t, int64_t,
                                    const Kernels<float>&, Team&);
template std::vector<TileLists> bin(const std::vector<Splatted<double>>&, const double*, int64_t, int64_t,
                                    const Kernels<double>&, Team&);

}  // namespace splat

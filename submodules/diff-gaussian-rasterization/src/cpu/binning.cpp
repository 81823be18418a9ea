#include "binning.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

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

// Calls visit(gaussian) for the Gaussians of one share, a stretch of the depth order.
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

[[noreturn]] void too_many(int64_t intersections, int64_t limit) {
  throw std::length_error("the Gaussians touch " + std::to_string(intersections) +
                          " tiles in all, more than max_intersections = " + std::to_string(limit) +
                          ": render fewer or smaller Gaussians or a smaller image, or raise the limit");
}

// The Gaussians of a slab, nearest first; equal depths keep their order.
template <class T>
std::vector<uint32_t> sort_by_depth(const T* depths, int64_t count, const Slab<T>& slab) {
  using Key = typename KeyOf<T>::type;
  std::vector<Item<Key>> items, buffer;
  items.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    if (!slab.holds(depths[i])) continue;
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
  std::atomic<int64_t> found{0};           // tile intersections
  std::vector<std::vector<int64_t>> next;  // [shares][tiles] position of the next intersection

  Bins(const Splatted<T>& raster, const BinRequest<T>& request, int64_t shares)
      : in(raster), touched(request.count), next(shares) {
    if (!request.by_gaussian) return;
    lists.by_gaussian.begin = Buffer<int64_t>(request.count + 1);
    lists.by_gaussian.begin[0] = 0;
  }
  int64_t tiles() const { return int64_t(in.raster.tiles_x) * in.raster.tiles_y; }
};

template <class T>
using AllBins = std::vector<std::unique_ptr<Bins<T>>>;

// Sorts by depth while it finds the tiles that the Gaussians touch.
template <class T>
std::vector<uint32_t> sort_and_find(const AllBins<T>& all, const BinRequest<T>& request,
                                    const Kernels<T>& kernels, Team& team) {
  const int64_t count = request.count, max_intersections = request.max_intersections;
  const int64_t chunks = (count + kGaussianChunk - 1) / kGaussianChunk;
  std::vector<uint32_t> order;
  team.each(1 + chunks * int64_t(all.size()), [&](int64_t item, int) {
    if (item == 0) {
      order = sort_by_depth(request.depths, count, request.slab);
      return;
    }
    Bins<T>& bins = *all[(item - 1) / chunks];
    // Beyond the limit only the count matters, for the message.
    const bool keep = bins.found.load(std::memory_order_relaxed) <= max_intersections;
    int64_t* const running = request.by_gaussian ? bins.lists.by_gaussian.begin.data() + 1 : nullptr;
    bins.found += bins.touched.find(bins.in.raster, bins.in.splats, request.depths, request.slab,
                                    bins.in.wanted, kernels, (item - 1) % chunks, running, keep);
  });
  for (const auto& bins : all)
    if (bins->found > std::min<int64_t>(max_intersections, UINT32_MAX))
      too_many(bins->found, max_intersections);
  return order;
}

// `begin` [N + 1] counts within a chunk of Gaussians: add where the chunk begins among all intersections.
template <class T>
void add_chunk_begin(Bins<T>& bins, int64_t chunk) {
  int64_t* begin = bins.lists.by_gaussian.begin.data();
  const int64_t end =
      std::min((chunk + 1) * kGaussianChunk, int64_t(bins.lists.by_gaussian.begin.size()) - 1);
  for (int64_t i = chunk * kGaussianChunk; i < end; ++i) begin[i + 1] += bins.touched.chunk_begin(chunk);
}

// How many Gaussians of a share touch each tile, [tiles].
std::vector<int64_t> count_intersections(int64_t tiles, const TouchedTiles& touched,
                                         const std::vector<uint32_t>& order, int64_t share, int64_t shares) {
  std::vector<int64_t> counts(tiles, 0);
  visit_in_order(order, touched, share, shares, [&](uint32_t gaussian) {
    for (const uint32_t tile : touched.of(gaussian)) ++counts[tile];
  });
  return counts;
}

// Replaces the number of intersections of each share in each tile, [shares][tiles], by the position of its
// first one: tile by tile, and within a tile share by share, so that the lists do not depend on the number of
// shares. Returns the number of all intersections.
int64_t places(std::vector<std::vector<int64_t>>& counts, int64_t tiles) {
  int64_t running = 0;
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (std::vector<int64_t>& own : counts) running += std::exchange(own[tile], running);
  return running;
}

// Allocates the lists once the intersections have been counted.
template <class T>
void allocate(Bins<T>& bins) {
  const int64_t intersections = places(bins.next, bins.tiles());
  TileLists& lists = bins.lists;
  lists.tile_begin = bins.next[0];
  lists.tile_begin.push_back(intersections);
  lists.gaussians = Buffer<uint32_t>(intersections);
  if (lists.by_gaussian.begin.size()) lists.by_gaussian.positions = Buffer<uint32_t>(intersections);
  lists.hits = Buffer<uint16_t>(intersections);
  lists.processed.assign(bins.tiles(), 0);
}

// Writes the intersections of a share; `next` is the position of the next one in each tile.
void list_intersections(const TouchedTiles& touched, const std::vector<uint32_t>& order, int64_t share,
                        int64_t shares, int64_t* next, const TileLists& lists) {
  uint32_t* const positions = lists.by_gaussian.positions.data();
  visit_in_order(order, touched, share, shares, [&](uint32_t gaussian) {
    uint32_t* position = positions ? positions + touched.begin(gaussian) : nullptr;
    for (const uint32_t tile : touched.of(gaussian)) {
      const int64_t at = next[tile]++;
      lists.gaussians[at] = gaussian;
      if (position) *position++ = uint32_t(at);
    }
  });
}

// The bits of a share of the depth order, each Gaussian's at its place in it.
void order_bits(const TileBits& tiles, int64_t count, const std::vector<uint32_t>& order, int64_t share,
                int64_t shares, uint32_t* ordered) {
  const int64_t visible = int64_t(order.size()), end = visible * (share + 1) / shares;
  for (int word = 0; word < tiles.words; ++word)
    for (int64_t i = visible * share / shares; i < end; ++i)
      ordered[word * visible + i] = tiles.bits[word * count + order[i]];
}

// Intersections kept as bits are counted only where their number may exceed the limit.
void check_count(const Buffer<uint32_t>& bits, int64_t max_intersections) {
  if (32 * bits.size() <= max_intersections) return;
  int64_t intersections = 0;
  for (int64_t i = 0; i < bits.size(); ++i) intersections += std::popcount(bits[i]);
  if (intersections > max_intersections) too_many(intersections, max_intersections);
}

}  // namespace

template <class T>
T first_slab(const T* depths, int64_t count) {
  constexpr int64_t kMany = 500'000, kLeast = 200'000, kSample = 8192;
  const T all = std::numeric_limits<T>::infinity();
  if (count < kMany) return all;
  std::vector<T> sample;
  for (int64_t i = 0; i < kSample; ++i)
    if (const T depth = depths[count * i / kSample]; depth >= 0) sample.push_back(depth);
  const int64_t visible = count * int64_t(sample.size()) / kSample;
  if (visible < kMany) return all;
  const auto limit = sample.begin() + std::max(visible / 4, kLeast) * int64_t(sample.size()) / visible;
  std::nth_element(sample.begin(), limit, sample.end());
  return *limit > *std::min_element(sample.begin(), sample.end()) ? *limit : all;
}

void append(Binned& binned, const Binned& farther) {
  const int64_t near = int64_t(binned.order.size()), far = int64_t(farther.order.size());
  if (far == 0) return;
  binned.order.insert(binned.order.end(), farther.order.begin(), farther.order.end());
  for (size_t r = 0; r < binned.layers.size(); ++r) {
    Buffer<uint32_t>& bits = binned.layers[r].bits;
    const int64_t words = farther.layers[r].bits.size() / far;
    Buffer<uint32_t> both(words * (near + far));
    for (int64_t word = 0; word < words; ++word) {
      uint32_t* const to = both.data() + word * (near + far);
      std::copy_n(bits.data() + word * near, near, to);
      std::copy_n(farther.layers[r].bits.data() + word * far, far, to + near);
    }
    bits = std::move(both);
  }
}

template <class T>
Binned bin(const std::vector<Splatted<T>>& rasters, const BinRequest<T>& request, const Kernels<T>& kernels,
           Team& team) {
  const int64_t count = request.count;
  // Near Gaussians touch more tiles: two stretches per thread balance the work.
  const int64_t shares = team.size() == 1 ? 1 : 2 * team.size();
  const int64_t chunks = (count + kGaussianChunk - 1) / kGaussianChunk;
  AllBins<T> all;
  for (const Splatted<T>& raster : rasters)
    if (!raster.tiles.words) all.push_back(std::make_unique<Bins<T>>(raster, request, shares));
  const int64_t listed = int64_t(all.size()), layers = int64_t(rasters.size());
  Binned binned;
  binned.order = sort_and_find(all, request, kernels, team);
  binned.layers.resize(layers);
  for (int64_t r = 0; r < layers; ++r)
    binned.layers[r].bits = Buffer<uint32_t>(rasters[r].tiles.words * int64_t(binned.order.size()));
  for (const auto& bins : all) bins->touched.add_up();
  // Three independent tasks in one loop keep all threads busy: counting, ordering bits, adding offsets.
  const int64_t counts = listed * shares, bits = layers * shares;
  const int64_t offsets = request.by_gaussian ? listed * chunks : 0;
  team.each(counts + bits + offsets, [&](int64_t item, int) {
    if (item < counts) {
      Bins<T>& bins = *all[item % listed];
      bins.next[item / listed] =
          count_intersections(bins.tiles(), bins.touched, binned.order, item / listed, shares);
    } else if (item < counts + bits) {
      const int64_t r = (item - counts) % layers, share = (item - counts) / layers;
      order_bits(rasters[r].tiles, count, binned.order, share, shares, binned.layers[r].bits.data());
    } else {
      const int64_t rest = item - counts - bits;
      add_chunk_begin(*all[rest % listed], rest / listed);
    }
  });
  for (const Binned::Layer& layer : binned.layers)
    check_count(layer.bits, std::min<int64_t>(request.max_intersections, UINT32_MAX));
  for (const auto& bins : all) allocate(*bins);
  team.each(counts, [&](int64_t item, int) {
    Bins<T>& bins = *all[item % listed];
    const int64_t share = item / listed;
    list_intersections(bins.touched, binned.order, share, shares, bins.next[share].data(), bins.lists);
  });
  size_t next = 0;
  for (int64_t r = 0; r < layers; ++r)
    if (!rasters[r].tiles.words) binned.layers[r].lists = std::move(all[next++]->lists);
  return binned;
}

TileLists lists_of(const std::vector<Found>& tiles) {
  TileLists lists;
  lists.tile_begin.push_back(0);
  for (const Found& tile : tiles) {
    lists.processed.push_back(int64_t(tile.gaussians.size()));
    lists.tile_begin.push_back(lists.tile_begin.back() + lists.processed.back());
  }
  lists.gaussians = Buffer<uint32_t>(lists.tile_begin.back());
  lists.hits = Buffer<uint16_t>(lists.tile_begin.back());
  for (size_t t = 0; t < tiles.size(); ++t) {
    std::copy(tiles[t].gaussians.begin(), tiles[t].gaussians.end(),
              lists.gaussians.data() + lists.tile_begin[t]);
    std::copy(tiles[t].hits.begin(), tiles[t].hits.end(), lists.hits.data() + lists.tile_begin[t]);
  }
  return lists;
}

ByGaussian list_by_gaussian(const TileLists& lists, int64_t gaussians) {
  const int64_t intersections = lists.tile_begin.back();
  ByGaussian result{Buffer<int64_t>(gaussians + 1), Buffer<uint32_t>(intersections)};
  int64_t* begin = result.begin.data();
  std::fill_n(begin, gaussians + 1, int64_t(0));
  for (int64_t i = 0; i < intersections; ++i) ++begin[lists.gaussians[i] + 1];
  // Writing advances begin[g + 1] from where the intersections of Gaussian g begin to where they end.
  for (int64_t i = 1, running = 0; i <= gaussians; ++i) running += std::exchange(begin[i], running);
  for (int64_t i = 0; i < intersections; ++i) result.positions[begin[lists.gaussians[i] + 1]++] = uint32_t(i);
  return result;
}

template float first_slab(const float*, int64_t);
template double first_slab(const double*, int64_t);
template Binned bin(const std::vector<Splatted<float>>&, const BinRequest<float>&, const Kernels<float>&,
                    Team&);
template Binned bin(const std::vector<Splatted<double>>&, const BinRequest<double>&, const Kernels<double>&,
                    Team&);

}  // namespace splat

// Which Gaussians touch which tile, nearest first. Two sorts instead of one of 64-bit keys: the Gaussians by
// depth, of which there are few, then the tile intersections, written in that order, by the few bits of
// the tile. The second sort is stable and keeps the first.
#include <algorithm>

#include "jobs.h"
#include "scalar.h"
// after scalar.h: it calls its functions
#include "splat/tiles.h"

namespace splat::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLarge = 64;  // tiles; the intersections of a larger splat are written by its whole warp

// The bits of a non-negative float order like the number.
__global__ void gather_depths(const float* depths, const uint32_t* selected, int64_t count, uint32_t* keys) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) keys[i] = __float_as_uint(depths[selected[i]]);
}

__global__ void gather_tiles(const int32_t* tiles, const uint32_t* order, int64_t count, int32_t* ranked) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) ranked[i] = tiles[order[i]];
}

// Intersections before they are sorted: tile, number, and the Gaussian of that number.
struct Intersections {
  uint32_t *tiles, *ids, *gaussians;

  __device__ __forceinline__ void write(int64_t id, int64_t tile, uint32_t gaussian) const {
    tiles[id] = uint32_t(tile);
    ids[id] = uint32_t(id);
    gaussians[id] = gaussian;
  }
};

struct IntersectionsJob {
  TiledRaster raster;
  const Splat<float>* splats;
  const uint32_t* order;
  const int64_t* gaussian_begin;
  int64_t visible;
  Intersections out;
};

__device__ __forceinline__ Range columns_of(const IntersectionsJob& job, const Splat<float>& s, int row) {
  return touched_columns(s, job.raster.tile, job.raster.raster.tiles_x, row);
}

__device__ __forceinline__ void write_alone(const IntersectionsJob& job, uint32_t gaussian, int64_t id) {
  const Splat<float> s = job.splats[gaussian];
  const Range rows = touched_rows(s, job.raster.tile, job.raster.raster.tiles_y);
  for (int row = rows.first; row <= rows.last; ++row) {
    const Range columns = columns_of(job, s, row);
    const int64_t first = int64_t(row) * job.raster.raster.tiles_x;
    for (int column = columns.first; column <= columns.last; ++column)
      job.out.write(id++, first + column, gaussian);
  }
}

// Lanes find the columns of a row each, then write row after row side by side.
__device__ __forceinline__ void write_together(const IntersectionsJob& job, uint32_t gaussian, int64_t id) {
  const int lane = threadIdx.x % kWarp;
  const Splat<float> s = job.splats[gaussian];
  const Range rows = touched_rows(s, job.raster.tile, job.raster.raster.tiles_y);
  for (int first = rows.first; first <= rows.last; first += kWarp) {
    Range own = {1, 0};
    if (first + lane <= rows.last) own = columns_of(job, s, first + lane);
    for (int i = 0; i < kWarp && first + i <= rows.last; ++i) {
      const int begin = __shfl_sync(kFullWarp, own.first, i), end = __shfl_sync(kFullWarp, own.last, i) + 1;
      const int64_t tile = int64_t(first + i) * job.raster.raster.tiles_x;
      for (int column = begin + lane; column < end; column += kWarp)
        job.out.write(id + (column - begin), tile + column, gaussian);
      id += max(end - begin, 0);
    }
  }
}

__global__ void __launch_bounds__(kThreads) write_intersections(IntersectionsJob job) {
  const int64_t rank = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const bool exists = rank < job.visible;
  const uint32_t gaussian = exists ? job.order[rank] : 0;
  const int64_t id = exists ? job.gaussian_begin[rank] : 0;
  const int64_t count = exists ? job.gaussian_begin[rank + 1] - id : 0;
  if (count > 0 && count <= kLarge) write_alone(job, gaussian, id);
  for (unsigned large = __ballot_sync(kFullWarp, count > kLarge); large; large &= large - 1) {
    const int owner = __ffs(int(large)) - 1;
    write_together(job, __shfl_sync(kFullWarp, gaussian, owner), __shfl_sync(kFullWarp, id, owner));
  }
}

// From sorted intersections to lists: the Gaussians, and where each tile begins, which is at the first
// intersection that is not of an earlier tile.
__global__ void write_lists(const uint32_t* sorted_tiles, const uint32_t* gaussians, int64_t tiles,
                            TileLists lists) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < lists.intersections) lists.gaussians[i] = gaussians[lists.gradient_ids[i]];
  if (i > tiles) return;
  int64_t begin = 0, end = lists.intersections;
  while (begin < end) {
    const int64_t middle = (begin + end) / 2;
    if (int64_t(sorted_tiles[middle]) < i)
      begin = middle + 1;
    else
      end = middle;
  }
  lists.tile_begin[i] = begin;
}

int bits_for(int64_t values) {
  int bits = 1;
  while (int64_t(1) << bits < values) ++bits;
  return bits;
}

}  // namespace

uint32_t* sort_by_depth(const ProjectJob& job, int64_t visible, const uint32_t* selected,
                        const Allocate& memory, cudaStream_t stream) {
  uint32_t* const order = allocate<uint32_t>(memory, visible);
  uint32_t* const keys = allocate<uint32_t>(memory, visible);
  uint32_t* const sorted = allocate<uint32_t>(memory, visible);
  launch({"gather_depths", blocks_for(visible, kThreads), kThreads, 0, stream}, gather_depths, job.depths,
         selected, visible, keys);
  sort_pairs(keys, sorted, selected, order, visible, 32, memory, stream);
  return order;
}

TileLists bin(const TiledRaster& raster, const Splat<float>* splats, const int32_t* tiles,
              const uint32_t* order, int64_t visible, int64_t intersections, const Allocate& memory,
              cudaStream_t stream) {
  const int64_t count = int64_t(raster.raster.tiles_x) * raster.raster.tiles_y;
  TileLists lists{};
  lists.intersections = intersections;
  lists.gaussians = allocate<uint32_t>(memory, intersections);
  lists.gradient_ids = allocate<uint32_t>(memory, intersections);
  lists.gaussian_begin = allocate<int64_t>(memory, visible + 1);
  lists.tile_begin = allocate<int64_t>(memory, count + 1);
  lists.processed = allocate<int32_t>(memory, count);
  int32_t* const ranked = allocate<int32_t>(memory, visible);
  launch({"gather_tiles", blocks_for(visible, kThreads), kThreads, 0, stream}, gather_tiles, tiles, order,
         visible, ranked);
  exclusive_sum(ranked, lists.gaussian_begin, visible, memory, stream);
  const Intersections unsorted = {allocate<uint32_t>(memory, intersections),
                                  allocate<uint32_t>(memory, intersections),
                                  allocate<uint32_t>(memory, intersections)};
  uint32_t* const sorted_tiles = allocate<uint32_t>(memory, intersections);
  const IntersectionsJob job = {raster, splats, order, lists.gaussian_begin, visible, unsorted};
  launch({"write_pairs", blocks_for(visible, kThreads), kThreads, 0, stream}, write_intersections, job);
  sort_pairs(unsorted.tiles, sorted_tiles, unsorted.ids, lists.gradient_ids, intersections, bits_for(count),
             memory, stream);
  launch({"write_lists", blocks_for(std::max(intersections, count + 1), kThreads), kThreads, 0, stream},
         write_lists, sorted_tiles, unsorted.gaussians, count, lists);
  return lists;
}

}  // namespace splat::cuda

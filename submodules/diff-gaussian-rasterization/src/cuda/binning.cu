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

// A thread per Gaussian, no shared memory. The bits of a non-negative float order like the number.
__global__ void depth_keys(const float* depths, const uint8_t* visible, Selection selection, uint32_t* keys) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= selection.count) return;
  if (selection.all) selection.gaussians[i] = uint32_t(i);
  const uint32_t gaussian = selection.gaussians[i];
  keys[i] = visible[gaussian] ? __float_as_uint(depths[gaussian]) : UINT32_MAX;
}

// What the host checks where it knows the counts: check_counts().
__device__ __forceinline__ bool renders(const Counts& counts, int64_t capacity) {
  return counts.intersections[0] <= capacity && counts.intersections[1] <= capacity &&
         counts.invalid == UINT64_MAX && !counts.bad_pose && !counts.bad_features;
}

// A thread per Gaussian, nearest first; no shared memory.
__global__ void gather_tiles(BinJob job, int64_t capacity, int32_t* ranked) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= job.visible) return;
  ranked[i] = !job.counts || renders(*job.counts, capacity) ? job.tiles[job.order[i]] : 0;
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
// intersection that is not of an earlier tile. What is left of a capacity is of a tile behind the last one.
__global__ void write_lists(const uint32_t* sorted_tiles, const uint32_t* gaussians, int64_t tiles,
                            TileLists lists) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < lists.intersections && int64_t(sorted_tiles[i]) < tiles)
    lists.gaussians[i] = gaussians[lists.gradient_ids[i]];
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

// Of the tiles, and of all ones for what is left of a capacity.
int tile_bits(int64_t tiles) {
  int bits = 1;
  while (int64_t(1) << bits <= tiles) ++bits;
  return bits;
}
constexpr int kDepthBits = 32;

}  // namespace

TileLists place_lists(Layout& layout, int64_t visible, int64_t intersections, int64_t tiles) {
  TileLists lists{};
  lists.intersections = intersections;
  lists.gaussians = layout.array<uint32_t>(intersections);
  lists.gradient_ids = layout.array<uint32_t>(intersections);
  lists.gaussian_begin = layout.array<int64_t>(visible + 1);
  lists.tile_begin = layout.array<int64_t>(tiles + 1);
  lists.processed = layout.array<int32_t>(tiles);
  return lists;
}

int64_t bin_bytes(int64_t visible, int64_t intersections, int64_t tiles) {
  return std::max(
      {sort_bytes(visible, kDepthBits), sum_bytes(visible), sort_bytes(intersections, tile_bits(tiles))});
}

BinScratch place_bin_scratch(Layout& layout, int64_t visible, int64_t intersections, int64_t bytes) {
  const int64_t keys = std::max(visible, intersections);
  return {layout.array<uint32_t>(keys),          layout.array<uint32_t>(keys),
          layout.array<uint32_t>(intersections), layout.array<uint32_t>(intersections),
          layout.array<int32_t>(visible),        {layout.array<unsigned char>(bytes), bytes}};
}

void sort_by_depth(const ProjectJob& job, const Selection& selection, uint32_t* order,
                   const BinScratch& scratch, cudaStream_t stream) {
  launch({"depth_keys", blocks_for(selection.count, kThreads), kThreads, 0, stream}, depth_keys, job.depths,
         job.visible, selection, scratch.keys);
  sort_pairs(scratch.keys, scratch.sorted_keys, selection.gaussians, order, selection.count, kDepthBits,
             scratch.temporary, stream);
}

void bin(const BinJob& job, const TileLists& lists, const BinScratch& scratch, cudaStream_t stream) {
  const int64_t tiles = tiles_of(job.raster), intersections = lists.intersections;
  const dim3 gaussian_blocks = blocks_for(job.visible, kThreads);
  launch({"gather_tiles", gaussian_blocks, kThreads, 0, stream}, gather_tiles, job, intersections,
         scratch.ranked);
  exclusive_sum(scratch.ranked, lists.gaussian_begin, job.visible, scratch.temporary, stream);
  // All ones are behind every tile.
  if (job.counts) fill(scratch.keys, 0xff, size_t(intersections) * sizeof(uint32_t), stream);
  const IntersectionsJob writes = {job.raster,  job.splats,
                                   job.order,   lists.gaussian_begin,
                                   job.visible, {scratch.keys, scratch.ids, scratch.gaussians}};
  launch({"write_intersections", gaussian_blocks, kThreads, 0, stream}, write_intersections, writes);
  sort_pairs(scratch.keys, scratch.sorted_keys, scratch.ids, lists.gradient_ids, intersections,
             tile_bits(tiles), scratch.temporary, stream);
  launch({"write_lists", blocks_for(std::max(intersections, tiles + 1), kThreads), kThreads, 0, stream},
         write_lists, scratch.sorted_keys, scratch.gaussians, tiles, lists);
}

}  // namespace splat::cuda

// Blending of the tiles: colour, depth and alpha pixel by pixel, features as a matrix product of the pixels'
// weights [32 pixels, 8 splats] with the splats' features [8 splats, channels] on tensor cores.
//
// A warp never waits for another one. It culls the tile's list against its own few pixels, where most of a
// tile's splats do not reach, and stops when its pixels are finished.
#include <algorithm>

#include "mma.h"
#include "warp_tile.h"

namespace splat::cuda {
namespace {

constexpr int kGroup = 8;          // splats per matrix product
constexpr int kMostChannels = 64;  // of one block: 64 sums per lane
constexpr int kLeastChannels = 16;
constexpr int kWeightStride = 40;  // floats: rows of weights that no two lanes' reads meet in a bank of

// What one launch renders. `features` is null in a launch for colour alone.
struct Pass {
  RenderJob job;
  int first_channel;   // of the first blocks; blockIdx.y counts on
  bool vectors;        // feature rows can be read as vectors of as many floats as a lane has columns, up to 4
  int32_t* processed;  // [tiles] or null: another launch counts
};

// --- pixels ---

template <int kRows, bool kColor>
struct PixelSums {
  float transmittance[kRows];  // negative: finished
  float red[kRows], green[kRows], blue[kRows], depth[kRows];

  // Pixels outside the image start out finished.
  __device__ __forceinline__ PixelSums(const Raster<float>& raster, const WarpPixels& at) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool inside = at.x < raster.width && at.y + kWarpHeight * r < raster.height;
      transmittance[r] = inside ? 1.f : -1.f;
      red[r] = green[r] = blue[r] = depth[r] = 0.f;
    }
  }

  // Blends one splat and returns its weight in the last row.
  __device__ __forceinline__ float add(const WarpSplat& s, float x, float y) {
    const ColumnExponent column = column_exponent(s, x - s.x);
    float weight = 0.f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float alpha = warp_alpha(s, column, y + float(kWarpHeight * r) - s.y);
      const Blend<float> b = blend<float, float>(alpha, transmittance[r]);
      transmittance[r] = b.transmittance;
      weight = b.weight;
      if constexpr (kColor) {
        red[r] += weight * s.red;
        green[r] += weight * s.green;
        blue[r] += weight * s.blue;
        depth[r] += weight * s.depth;
      }
    }
    return weight;
  }

  __device__ __forceinline__ bool open() const {  // for any pixel of the warp
    float largest = transmittance[0];
#pragma unroll
    for (int r = 1; r < kRows; ++r) largest = fmaxf(largest, transmittance[r]);
    return __any_sync(kFullWarp, largest > 0.f);
  }

  __device__ __forceinline__ void write(const RenderJob& job, const WarpPixels& at) const {
    const Raster<float>& raster = job.raster.raster;
    const int64_t plane = int64_t(raster.width) * raster.height;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int y = at.y + kWarpHeight * r;
      if (at.x >= raster.width || y >= raster.height) continue;
      const int64_t p = int64_t(y) * raster.width + at.x;
      const float behind = fabsf(transmittance[r]), alpha = 1.f - behind;
      job.images.rgb[p] = red[r] + behind * job.background[0];
      job.images.rgb[plane + p] = green[r] + behind * job.background[1];
      job.images.rgb[2 * plane + p] = blue[r] + behind * job.background[2];
      job.images.alpha[p] = alpha;
      job.images.depth[p] = alpha > 0.f ? depth[r] / alpha : 0.f;
    }
  }
};

// --- features ---

// The columns of a feature product are a permutation of the channels such that a lane reads whole vectors of
// a feature row: the channel of column `g` in the j-th of `kTiles` groups of eight columns.
template <int kTiles>
__device__ __forceinline__ constexpr int column_channel(int j, int g) {
  constexpr int kVector = kTiles < 4 ? kTiles : 4;
  return 8 * kVector * (j / kVector) + kVector * g + j % kVector;
}

// The matrix product of one warp: 32 pixels as two fragments of 16 rows, 8 kTiles channels as kTiles
// fragments of eight columns.
template <int kTiles>
class FeatureSums {
 public:
  __device__ __forceinline__ explicit FeatureSums(const Pass& pass)
      : pass_(pass),
        first_channel_(pass.first_channel + int(blockIdx.y) * 8 * kTiles),
        group_(threadIdx.x % kWarp / 4),
        member_(threadIdx.x % 4) {}

  // Loads the features of up to eight splats, before their weights are known: memory is slow.
  __device__ __forceinline__ void load(const WarpSplat* splats, int count) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int k = member_ + 4 * half;
      const bool exists = k < count;
      load_row(exists ? splats[k].gaussian : 0, exists, features_[half]);
    }
  }

  // Adds weights [8, 32] times the features loaded.
  __device__ __forceinline__ void add(const float (&weights)[kGroup][kWeightStride]) {
    if (!kTensorCores || pass_.job.full_precision)  // without them both are the same
      add_product<true>(weights);
    else
      add_product<false>(weights);
  }

  // Neighbouring lanes of a fragment's column hold neighbouring pixels: whole sectors of memory.
  __device__ __forceinline__ void write(const WarpPixels& at) const {
    const Raster<float>& raster = pass_.job.raster.raster;
    const int64_t plane = int64_t(raster.width) * raster.height;
    const int x = at.left + group_;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int y = at.top + 2 * m + i / 2;
          const int channel = first_channel_ + column_channel<kTiles>(j, 2 * member_ + i % 2);
          if (x < raster.width && y < raster.height && channel < pass_.job.channels)
            pass_.job.images.features[channel * plane + int64_t(y) * raster.width + x] = sums_[m][j][i];
        }
  }

 private:
  static constexpr int kVector = kTiles < 4 ? kTiles : 4;

  // What the products take of a number: rounded where the high part is all they take.
  template <bool kPrecise>
  __device__ __forceinline__ static Split factor(float a) {
    if constexpr (kPrecise) return split_both(a);
    return {to_tf32(a), 0.f};
  }

  template <bool kPrecise>
  __device__ __forceinline__ void add_product(const float (&weights)[kGroup][kWeightStride]) {
    float high[2][4], low[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Split s = factor<kPrecise>(weights[member_ + 4 * (i / 2)][16 * m + group_ + 8 * (i % 2)]);
        high[m][i] = s.high;
        low[m][i] = s.low;
      }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const Split upper = factor<kPrecise>(features_[0][j]), lower = factor<kPrecise>(features_[1][j]);
      const float high_b[2] = {upper.high, lower.high}, low_b[2] = {upper.low, lower.low};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if constexpr (kPrecise) {
          mma_low(sums_[m][j], low[m], high_b);
          mma_low(sums_[m][j], high[m], low_b);
        }
        mma(sums_[m][j], high[m], high_b);
      }
    }
  }

  // The lane's columns of one feature row, zeros where there is no splat or no channel: their weights are
  // zero, but zero times whatever memory holds may be NaN.
  __device__ __forceinline__ void load_row(uint32_t gaussian, bool exists, float (&row)[kTiles]) const {
    const int channels = pass_.job.channels;
    const float* from = pass_.job.features + int64_t(gaussian) * channels;
#pragma unroll
    for (int j = 0; j < kTiles; j += kVector) {
      const int channel = first_channel_ + column_channel<kTiles>(j, group_);
#pragma unroll
      for (int i = 0; i < kVector; ++i) row[j + i] = 0.f;
      if (kVector > 1 && pass_.vectors) {
        if (exists && channel < channels) load_vector(from + channel, row + j);
      } else {
#pragma unroll
        for (int i = 0; i < kVector; ++i)
          if (exists && channel + i < channels) row[j + i] = from[channel + i];
      }
    }
  }

  __device__ __forceinline__ static void load_vector(const float* from, float* to) {
    if constexpr (kVector == 4) {
      const float4 v = *reinterpret_cast<const float4*>(from);
      to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (kVector == 2) {
      const float2 v = *reinterpret_cast<const float2*>(from);
      to[0] = v.x, to[1] = v.y;
    }
  }

  const Pass& pass_;
  int first_channel_;
  int group_, member_;  // lane / 4 and lane % 4: mma.h
  float features_[2][kTiles];
  float sums_[2][kTiles][4] = {};
};

// --- kernels ---

struct ColorShared {
  WarpStage stage;
};
struct FeatureShared {
  WarpStage stage;
  float weights[kGroup][kWeightStride];
};

// Of this warp; the launch provides as many as a block has warps.
template <class Shared>
__device__ __forceinline__ Shared& warp_shared() {
  return (&block_shared<Shared>())[threadIdx.x / kWarp];
}

struct TileList {
  const uint32_t* gaussians;
  int count;
};
__device__ __forceinline__ TileList tile_list(const TileLists& lists) {
  const int64_t begin = lists.tile_begin[blockIdx.x];
  return {lists.gaussians + begin, int(lists.tile_begin[blockIdx.x + 1] - begin)};
}

__device__ __forceinline__ void count_processed(const Pass& pass, int count) {
  if (pass.processed && threadIdx.x % kWarp == 0) atomicMax(pass.processed + blockIdx.x, count);
}

template <int kRows>
__global__ void __launch_bounds__(kLargeTile* kLargeTile / kRows, 4 * kRows) render_color(Pass pass) {
  const WarpPixels at = warp_pixels<kRows>(pass.job.raster);
  const float x = float(at.x) + 0.5f, y = float(at.y) + 0.5f;
  const TileList list = tile_list(pass.job.lists);
  PixelSums<kRows, true> pixels(pass.job.raster.raster, at);
  ListWalk walk(list.gaussians, list.count, pass.job.splats, warp_shared<ColorShared>().stage);
  while (walk.end() < list.count && pixels.open()) {
    const int survivors = __popc(walk.advance(at, kWarpHeight * kRows));
    const WarpSplat* splats = walk.survivors();
    for (int i = 0; i < survivors; ++i) pixels.add(splats[i], x, y);
  }
  count_processed(pass, walk.end());
  pixels.write(pass.job, at);
}

template <bool kColor, int kTiles>
__global__ void __launch_bounds__(kLargeTile* kLargeTile, 2) render_features(Pass pass) {
  FeatureShared& shared = warp_shared<FeatureShared>();
  const int lane = threadIdx.x % kWarp;
  const WarpPixels at = warp_pixels<1>(pass.job.raster);
  const float x = float(at.x) + 0.5f, y = float(at.y) + 0.5f;
  const TileList list = tile_list(pass.job.lists);
  PixelSums<1, kColor> pixels(pass.job.raster.raster, at);
  FeatureSums<kTiles> features(pass);
  ListWalk walk(list.gaussians, list.count, pass.job.splats, shared.stage);
  while (walk.end() < list.count && pixels.open()) {
    const int survivors = __popc(walk.advance(at, kWarpHeight));
    for (int first = 0; first < survivors; first += kGroup) {
      const WarpSplat* splats = walk.survivors() + first;
      const int count = min(kGroup, survivors - first);
      features.load(splats, count);
      float largest = 0.f;
#pragma unroll 2
      for (int k = 0; k < count; ++k) {
        const float weight = pixels.add(splats[k], x, y);
        shared.weights[k][lane] = weight;
        largest = fmaxf(largest, weight);
      }
      for (int k = count; k < kGroup; ++k) shared.weights[k][lane] = 0.f;
      __syncwarp();
      if (__any_sync(kFullWarp, largest > 0.f)) features.add(shared.weights);
      __syncwarp();
    }
  }
  count_processed(pass, walk.end());
  if constexpr (kColor) pixels.write(pass.job, at);
  features.write(at);
}

// --- launches ---

template <class Shared>
void launch_pass(const char* name, void (*kernel)(Pass), int rows, const Pass& pass, cudaStream_t stream,
                 int chunks = 1) {
  const TiledRaster& raster = pass.job.raster;
  const int threads = raster.tile * raster.tile / rows;
  dim3 grid = blocks_for(tiles_of(pass.job.raster), 1);
  grid.y = unsigned(chunks);
  launch({name, grid, threads, size_t(threads / kWarp) * sizeof(Shared), stream}, kernel, pass);
}

// Two pixels per lane share a splat's loads and half its exponent. Small tiles are for images that fill a GPU
// with warps of one pixel per lane only.
void launch_color(const Pass& pass, cudaStream_t stream) {
  if (pass.job.raster.tile == kLargeTile)
    launch_pass<ColorShared>("render_color", render_color<2>, 2, pass, stream);
  else
    launch_pass<ColorShared>("render_color", render_color<1>, 1, pass, stream);
}

template <int kTiles>
void launch_features(Pass pass, int chunks, cudaStream_t stream) {
  constexpr int kVector = kTiles < 4 ? kTiles : 4;
  pass.vectors = pass.job.channels % kVector == 0 &&
                 reinterpret_cast<uintptr_t>(pass.job.features) % (kVector * sizeof(float)) == 0;
  const auto kernel = pass.job.color ? render_features<true, kTiles> : render_features<false, kTiles>;
  launch_pass<FeatureShared>("render_features", kernel, 1, pass, stream, chunks);
}

// Of the channels [pass.first_channel, + channels), `width` per block.
void launch_features(const Pass& pass, int channels, int width, cudaStream_t stream) {
  const int chunks = (channels + width - 1) / width, widest = std::min(channels, width);
  if (widest <= 8) return launch_features<1>(pass, chunks, stream);
  if (widest <= 16) return launch_features<2>(pass, chunks, stream);
  if (widest <= 32) return launch_features<4>(pass, chunks, stream);
  launch_features<8>(pass, chunks, stream);
}

// Where tiles are too few for the multiprocessors, more blocks share out the channels of each: all of them
// blend the tile's whole list, on multiprocessors that would be idle.
int block_channels(const RenderJob& job, int channels) {
  int width = kMostChannels;
  while (width > kLeastChannels &&
         tiles_of(job.raster) * ((channels + width - 1) / width) < 2 * int64_t(job.multiprocessors))
    width /= 2;
  return width;
}

}  // namespace

void render(const RenderJob& job, cudaStream_t stream) {
  clear(job.lists.processed, size_t(tiles_of(job.raster)) * sizeof(int32_t), stream);
  Pass pass = {job, 0, false, job.lists.processed};
  if (!job.features) return launch_color(pass, stream);
  if (job.color) {
    launch_features(pass, std::min(job.channels, kMostChannels), kMostChannels, stream);
    pass.first_channel = kMostChannels;
    pass.job.color = false;  // is done, and `processed` is written
    pass.processed = nullptr;
  }
  const int rest = job.channels - pass.first_channel;
  if (rest > 0) launch_features(pass, rest, block_channels(job, rest), stream);
}

}  // namespace splat::cuda

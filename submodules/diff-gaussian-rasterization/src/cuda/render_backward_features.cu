// The gradient of features: over the pixels of a tile, weight of a splat times gradient of a channel. A
// matrix product, on tensor cores.
//
// A warp multiplies only the splats that reach its own pixels, gathered in eights, with the gradients of
// these pixels, which stay in its registers as fragments. That is a third of the work of a product of
// everything with everything, and each weight is read once instead of once per warp. The price is a sum over
// the warps, in order, in shared memory, where the sums of eight splats take the place of their weights.
#include <algorithm>

#include "render_backward.h"

namespace splat::cuda {
namespace {

// Three products of the high and low parts of both factors leave room for half the channels.
template <bool kPrecise>
constexpr int kTiles = kPrecise ? 2 : 4;  // of 16 channels
constexpr int kTileChannels = 16;
template <bool kPrecise>
constexpr int kWidth = kTiles<kPrecise> * kTileChannels;  // channels of a block
constexpr int kGroups = 2;                                // of eight splats, per warp, whose sums fit
constexpr int kRows = kGroups * kGroup;

template <int kWarps, bool kPrecise>
struct FeatureShared {
  WarpStage stages[kWarps];
  SplatRows<kWidth<kPrecise>> rows[kWarps][kGroups];  // weights by pixel, then sums by channel
  unsigned reached[kWarps];  // by each warp: the splats of the batch that it has sums of
};
// Blocks of 8 warps that a multiprocessor holds, by its shared memory: that of sm_80 (sm_90 and sm_100 have
// more); of sm_86, sm_89 and sm_120; of sm_75, which always takes the precise ones.
static_assert(shared_of(2, sizeof(FeatureShared<8, false>)) <= 164 << 10);
static_assert(shared_of(1, sizeof(FeatureShared<8, false>)) <= 100 << 10);
static_assert(shared_of(2, sizeof(FeatureShared<8, true>)) <= 100 << 10);
static_assert(shared_of(1, sizeof(FeatureShared<8, true>)) <= 64 << 10);

// What the products take of a number; the low part only where they are precise.
template <bool kPrecise>
__device__ __forceinline__ Split factor(float a) {
  if constexpr (kPrecise) return split_both(a);
  return {to_tf32(a), 0.f};
}

// The gradients of a warp's pixels: 16 channels by 8 pixels per fragment.
template <bool kPrecise>
struct Gradients {
  float high[kTiles<kPrecise>][kWarpHeight][4];
  float low[kPrecise ? kTiles<kPrecise> : 1][kPrecise ? kWarpHeight : 1][4];
};

template <bool kPrecise>
__device__ __forceinline__ Gradients<kPrecise> load_gradients(const RenderBackwardJob& job, int first,
                                                              const WarpPixels& pixels) {
  const Raster<float>& raster = job.forward.raster.raster;
  const FragmentLane at = fragment_lane();
  Gradients<kPrecise> g;
#pragma unroll
  for (int i = 0; i < kTiles<kPrecise> * kWarpHeight * 4; ++i) {
    const int tile = i / (kWarpHeight * 4), row = i / 4 % kWarpHeight, k = i % 4;
    const int c = first + kTileChannels * tile + at.g + 8 * (k % 2);
    const int x = pixels.left + at.t + 4 * (k / 2), y = pixels.top + row;
    const bool given = c < job.forward.channels && inside(raster, x, y);
    const Split parts =
        factor<kPrecise>(given ? job.d.features[(int64_t(c) * raster.height + y) * raster.width + x] : 0.f);
    g.high[tile][row][k] = parts.high;
    if constexpr (kPrecise) g.low[tile][row][k] = parts.low;
  }
  return g;
}

// Replaces the weights of eight splats, by pixel, by their product with the gradients, by channel; all lanes
// of a warp together. Rows of missing splats may hold anything: they only reach sums that are not read.
template <bool kPrecise>
__device__ __forceinline__ void leave_group(SplatRows<kWidth<kPrecise>>& rows,
                                            const Gradients<kPrecise>& gradients, int channels) {
  const FragmentLane at = fragment_lane();
  float d[kTiles<kPrecise>][4] = {};
#pragma unroll
  for (int row = 0; row < kWarpHeight; ++row) {
    const int pixel = kWarpWidth * row + at.t;
    const Split w0 = factor<kPrecise>(rows.at(at.g, pixel)), w1 = factor<kPrecise>(rows.at(at.g, pixel + 4));
#pragma unroll
    for (int tile = 0; tile < kTiles<kPrecise>; ++tile) {
      if (tile * kTileChannels >= channels) break;
      mma(d[tile], gradients.high[tile][row], {w0.high, w1.high});
      if constexpr (kPrecise) {
        mma_low(d[tile], gradients.high[tile][row], {w0.low, w1.low});
        mma_low(d[tile], gradients.low[tile][row], {w0.high, w1.high});
      }
    }
  }
  __syncwarp();  // all weights have been read
#pragma unroll
  for (int i = 0; i < kTiles<kPrecise> * 4; ++i)
    rows.at(2 * at.t + i % 2, i / 4 * kTileChannels + at.g + 8 * (i / 2 % 2)) = d[i / 4][i % 4];
}

// Eight splats at a time, unrolled: their rows and records lie at fixed distances.
template <bool kPrecise>
__device__ __forceinline__ void blend_features(const WarpSplat* splats, int count, const WarpPixels& pixels,
                                               const Gradients<kPrecise>& gradients, int channels,
                                               SplatRows<kWidth<kPrecise>>* rows, float& transmittance) {
  for (int first = 0; first < count; first += kGroup, ++rows) {
    const int size = min(kGroup, count - first);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (i == size) break;
      const Blend<float> b = blend<float, float>(pixel_alpha(splats[first + i], pixels), transmittance);
      transmittance = b.transmittance;
      rows->at(i, threadIdx.x % kWarp) = b.weight;
    }
    __syncwarp();
    leave_group<kPrecise>(*rows, gradients, channels);
  }
}

// Channels [first, first + width) of a job.
struct Chunk {
  int first, width;
};

// Adds up the warps' sums of splats [begin, end) of a batch, four channels per thread. Splats that no warp
// has sums of are left out.
template <int kWarps, bool kPrecise>
__device__ __forceinline__ void write_gradients(const FeatureRows& out,
                                                const FeatureShared<kWarps, kPrecise>& shared,
                                                const uint32_t* gradient_ids, int begin, int end,
                                                Chunk chunk) {
  constexpr int kQuads = kWidth<kPrecise> / 4;
  for (int item = kQuads * begin + threadIdx.x; item < kQuads * end; item += kWarps * kWarp) {
    const int splat = item / kQuads, quad = item % kQuads;
    if (4 * quad >= chunk.width) continue;
    float4 total = {0.f, 0.f, 0.f, 0.f};
    bool any = false;
    for (int warp = 0; warp < kWarps; ++warp) {
      const unsigned reached = shared.reached[warp];
      if (!(reached >> splat & 1)) continue;
      any = true;
      const int place = __popc(reached & ((1u << splat) - 1));
      const float4 own = shared.rows[warp][place / kGroup].quad(place % kGroup, quad);
      total.x += own.x, total.y += own.y, total.z += own.z, total.w += own.w;
    }
    if (!any) continue;
    const int64_t row = gradient_ids[splat];
    float* const to = out.at + row * out.stride + (chunk.first - out.first_channel);
    reinterpret_cast<float4*>(to)[quad] = total;
    if (chunk.first + quad == 0) out.written[row] = 1;  // alike in every chunk
  }
}

// dF = W^T dOut of feature splatting as a matrix product, with the splats' weights blended anew, front to
// back. Threads: a block of 8 warps per tile of 16 x 16 pixels (2 for 8 x 8) and kWidth channels. Shared
// memory: FeatureShared, 48 KB for 8 warps (64 KB in tf32). 16 warps per multiprocessor, of up to 128
// registers, half of which hold gradients; 8 where shared memory holds no more.
template <int kWarps, bool kPrecise>
__global__ void __launch_bounds__(kWarps* kWarp, 16 / kWarps) features_backward(RenderBackwardJob job) {
  using Shared = FeatureShared<kWarps, kPrecise>;
  Shared& shared = block_shared<Shared>();
  const int first = job.rows.first_channel + int(blockIdx.y) * kWidth<kPrecise>;
  const WarpPixels pixels = warp_pixels<1>(job.forward.raster);
  const Gradients<kPrecise> gradients = load_gradients<kPrecise>(job, first, pixels);
  const Chunk chunk = {first, min(kWidth<kPrecise>, job.rows.first_channel + job.rows.channels - first)};
  const int warp = threadIdx.x / kWarp;
  const TileLists& lists = job.forward.lists;
  const TileRange range = tile_range(lists);
  float transmittance = inside(job.forward.raster.raster, pixels.x, pixels.y) ? 1.f : -1.f;
  ListWalk walk(lists.gaussians + range.begin, range.processed, job.forward.splats, shared.stages[warp]);
  while (walk.end() < range.processed) {
    const int begin = walk.end();
    unsigned reached = walk.advance(pixels, kWarpHeight);
    if (__all_sync(kFullWarp, transmittance < 0.f)) reached = 0;
    // A batch that leaves some warp with too many sums goes in two halves. The barrier also waits until the
    // sums of the batch before have been read.
    const bool halves = __syncthreads_or(__popc(reached) > kRows);
    for (int half = 0; half <= int(halves); ++half) {
      const unsigned own = halves ? reached & (0xffffu << kRows * half) : reached;
      if (half) __syncthreads();
      blend_features<kPrecise>(walk.survivors() + (half ? __popc(reached & 0xffffu) : 0), __popc(own), pixels,
                               gradients, chunk.width, shared.rows[warp], transmittance);
      if (threadIdx.x % kWarp == 0) shared.reached[warp] = own;
      __syncthreads();
      const int count = walk.end() - begin;
      write_gradients(job.rows, shared, lists.gradient_ids + range.begin + begin, kRows * half,
                      halves && half == 0 ? min(kRows, count) : count, chunk);
    }
  }
}

template <int kWarps, bool kPrecise>
void launch_features(const RenderBackwardJob& job, cudaStream_t stream) {
  const unsigned chunks = unsigned(job.rows.channels + kWidth<kPrecise> - 1) / kWidth<kPrecise>;
  launch({"features_backward", dim3(unsigned(tiles_of(job.forward.raster)), chunks), kWarps * kWarp,
          sizeof(FeatureShared<kWarps, kPrecise>), stream},
         features_backward<kWarps, kPrecise>, job);
}

// A GPU without room for 64 channels (sm_75) has no tf32 either, so full precision costs it nothing.
bool precise(const RenderJob& job) {
  return job.full_precision || sizeof(FeatureShared<8, false>) > most_shared_bytes();
}

}  // namespace

int feature_chunk(const RenderJob& job, int64_t bytes) {
  const int64_t width = precise(job) ? kWidth<true> : kWidth<false>;
  const int64_t fits = bytes / (int64_t(sizeof(float)) * job.lists.intersections) / width;
  return int(std::min(int64_t(job.channels), std::max<int64_t>(fits, 1) * width));
}

void render_backward_features(const RenderBackwardJob& job, cudaStream_t stream) {
  const bool large = job.forward.raster.tile == kLargeTile;
  if (precise(job.forward))
    return large ? launch_features<8, true>(job, stream) : launch_features<2, true>(job, stream);
  if (large) return launch_features<8, false>(job, stream);
  launch_features<2, false>(job, stream);
}

}  // namespace splat::cuda

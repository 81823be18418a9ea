// The adjoint of blending: what each splat collects over the pixels of a tile, as moments of dL/d(power) and
// sums of colour gradients.
//
// A block per tile walks its list front to back once more, so that nothing but the images needs to be kept
// from the forward pass; see load_pixel() for how gradients come out of that direction. The warps go through
// the list in step, 32 splats at a time: each stores its sums, and those of all warps are added in order. No
// atomics: the gradients are the same in every run.
#include "feature_values.h"

namespace splat::cuda {
namespace {

template <int kWarps>
struct MomentsShared {
  WarpStage stages[kWarps];
  GroupRows h[kWarps], w[kWarps];  // dL/d(power) and weight
  unsigned reached[kWarps];        // by each warp: the splats of the batch that it has sums of
};
// Blocks of 8 warps that a multiprocessor holds, by its shared memory: that of sm_80 (sm_90 and sm_100 have
// more); of sm_86, sm_89 and sm_120; of sm_75.
static_assert(shared_of(3, sizeof(MomentsShared<8>)) <= 164 << 10);
static_assert(shared_of(2, sizeof(MomentsShared<8>)) <= 100 << 10);
static_assert(shared_of(1, sizeof(MomentsShared<8>)) <= 64 << 10);

// --- pixels ---

// With weights w_i and per-splat values v_i = sum_c g_c c_i the loss is, to first order, sum_i w_i v_i:
// `constant` is the part of v that all splats share, `rest` that sum over what is still behind. It comes of a
// difference and errs by some 1e-7 of the whole sum, which power_adjoint() divides by 1 - alpha. Beside the
// gradient of the same splat, alpha T value, that is small: a splat contributes only where T (1 - alpha) is
// 1e-4 or more, so that the error is at most 1e-3 of it where `value` is of the size of the sum.
struct Pixel {
  float transmittance;  // negative: finished
  float g[4];           // red, green, blue, depth
  float constant, rest;
};

__device__ __forceinline__ void add_color(const RenderBackwardJob& job, int64_t p, int64_t plane,
                                          Pixel& pixel) {
  const Images<float>& images = job.forward.images;
  const float alpha = images.alpha[p];
  if (job.d.alpha) pixel.constant = job.d.alpha[p];
  pixel.rest = pixel.constant * alpha;
  for (int c = 0; c < 3 && job.d.rgb; ++c) {
    // rgb = sum w c + (1 - alpha) background, alpha = sum w
    const float g = job.d.rgb[c * plane + p], background = job.forward.background[c];
    pixel.g[c] = g;
    pixel.constant -= g * background;
    pixel.rest += g * (images.rgb[c * plane + p] - background);
  }
  if (job.d.depth && alpha > 0.f) {
    // depth = sum w z / sum w: v = g (z - depth) / alpha, whose weighted sum is zero
    pixel.g[3] = job.d.depth[p] / alpha;
    pixel.constant -= pixel.g[3] * images.depth[p];
  }
}

template <bool kFeatures>
__device__ __forceinline__ Pixel load_pixel(const RenderBackwardJob& job, int x, int y) {
  const Raster<float>& raster = job.forward.raster.raster;
  Pixel pixel = {-1.f, {}, 0.f, 0.f};
  if (!inside(raster, x, y)) return pixel;
  pixel.transmittance = 1.f;
  const int64_t plane = int64_t(raster.width) * raster.height, p = int64_t(y) * raster.width + x;
  if (job.color) add_color(job, p, plane, pixel);
  for (int c = 0; kFeatures && c < job.forward.channels; ++c)
    pixel.rest += job.d.features[c * plane + p] * job.forward.images.features[c * plane + p];
  return pixel;
}

// --- sums over the pixels of a warp ---

// The moments of h and the sums of w times the four colour gradients: two products with the splats as columns
// and the same left factor. Its rows 0 to 5 are the basis 1, x, y, xx, xy, yy about the centre of the warp's
// pixels, exact in tf32; rows 8 to 11 are the high parts of the colour gradients, rows 12 to 15 the low ones.
// Half of either product means nothing, and costs nothing: a fragment has 16 rows.
struct Bases {
  float at[kWarpHeight][4];  // a fragment for each row of pixels
};

// The monomials kH ... kHyy are products of two of 1, x and y, by the indices kH, kHx and kHy of these.
struct Factors {
  int first, second;
};
__device__ __forceinline__ Factors factors(int monomial) {
  const bool first_y = monomial == kHy || monomial == kHyy, second_y = monomial == kHxy || monomial == kHyy;
  return {first_y ? kHy : (monomial == kH ? kH : kHx), second_y ? kHy : (monomial == kHxx ? kHx : kH)};
}
__device__ __forceinline__ float factor(int which, float one, float x, float y) {
  return which == kHx ? x : (which == kHy ? y : one);
}

constexpr float kCentreX = 0.5f * kWarpWidth, kCentreY = 0.5f * kWarpHeight;

// `rows` is scratch.
__device__ __forceinline__ Bases load_bases(const Pixel& pixel, GroupRows& rows) {
  const FragmentLane at = fragment_lane();
  const Factors f = factors(at.g);
  for (int c = 0; c < 4; ++c) rows.at(c, threadIdx.x % kWarp) = pixel.g[c];
  __syncwarp();
  Bases bases;
  for (int row = 0; row < kWarpHeight; ++row)
    for (int half = 0; half < 2; ++half) {
      const int column = at.t + 4 * half;
      const float x = float(column) + 0.5f - kCentreX, y = float(row) + 0.5f - kCentreY;
      bases.at[row][2 * half] = factor(f.first, 1.f, x, y) * factor(f.second, 1.f, x, y);
      const Split g = split(rows.at(at.g % 4, kWarpWidth * row + column));
      bases.at[row][2 * half + 1] = at.g < 4 ? g.high : g.low;
    }
  __syncwarp();
  return bases;
}

// d += bases times the rows of up to eight splats; all lanes of the warp together. Rows of missing
// splats may hold anything: they only reach columns that are not read.
__device__ __forceinline__ void group_product(const GroupRows& rows, const Bases& bases, float (&d)[4]) {
  const FragmentLane at = fragment_lane();
#pragma unroll
  for (int row = 0; row < kWarpHeight; ++row) {
    const int pixel = kWarpWidth * row + at.t;
    const Split a = split_both(rows.at(at.g, pixel)), b = split_both(rows.at(at.g, pixel + 4));
    mma(d, bases.at[row], {a.high, b.high});
    mma_low(d, bases.at[row], {a.low, b.low});
  }
}

// The moment of this lane's row about another point, of which the old one is at (x, y):
// sum h (F + dF) (S + dS) with the factors F and S, whose own moments other rows hold.
__device__ __forceinline__ float shifted(float moment, float x, float y) {
  const FragmentLane at = fragment_lane();
  const Factors f = factors(at.g);
  const float d_first = factor(f.first, 0.f, x, y), d_second = factor(f.second, 0.f, x, y);
  const float by_0 = __shfl_sync(kFullWarp, moment, 4 * kH + at.t);
  const float by_first = __shfl_sync(kFullWarp, moment, 4 * f.first + at.t);
  const float by_second = __shfl_sync(kFullWarp, moment, 4 * f.second + at.t);
  return moment + d_first * (by_second + d_second * by_0) + d_second * by_first;
}

// The ten sums of a splat overwrite the splat, which is not needed any more and has as many floats.
__device__ __forceinline__ float* sums_of(WarpSplat& splat) { return &splat.x; }
static_assert(sizeof(WarpSplat) == kGradientStride * sizeof(float) &&
              offsetof(WarpSplat, blue) == 4 * kDDepth);

// Overwrites `count` splats, up to eight, with their sums; all lanes of the warp together.
__device__ __forceinline__ void write_group(const GroupRows& h, const GroupRows& w, const Bases& bases,
                                            const WarpPixels& pixels, WarpSplat* group, int count) {
  const FragmentLane at = fragment_lane();
  float moments[4] = {}, colors[4] = {};
  group_product(h, bases, moments);
  group_product(w, bases, colors);
  float moment[2], color[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const WarpSplat& s = group[2 * at.t + i];
    moment[i] = shifted(moments[i], float(pixels.left) + kCentreX - s.x, float(pixels.top) + kCentreY - s.y);
    color[i] = colors[2 + i] + __shfl_xor_sync(kFullWarp, colors[2 + i], kWarp / 2);  // high and low parts
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (2 * at.t + i >= count) continue;
    float* sums = sums_of(group[2 * at.t + i]);
    if (at.g <= kHyy) sums[at.g] = moment[i];
    if (at.g < 4) sums[kDRed + at.g] = color[i];
  }
}

// What one splat does to the lane's pixel: its weight, and h. `features` is the part of its features in
// `value`.
struct PixelTerms {
  float h, w;
};

__device__ __forceinline__ PixelTerms blend_backward(const WarpSplat& s, const WarpPixels& pixels,
                                                     float features, Pixel& pixel) {
  const float alpha = pixel_alpha(s, pixels);
  const Blend<float> b = blend<float, float>(alpha, pixel.transmittance);
  pixel.transmittance = b.transmittance;
  const float value = pixel.constant + s.red * pixel.g[0] + s.green * pixel.g[1] + s.blue * pixel.g[2] +
                      s.depth * pixel.g[3] + features;
  pixel.rest -= b.weight * value;
  return {power_adjoint<float, float>(alpha, odds_of(alpha), b.weight, value, pixel.rest), b.weight};
}

// Eight splats at a time, unrolled: their rows and records lie at fixed distances. The rows of h hold the
// values of the features first.
template <bool kFeatures>
__device__ __forceinline__ void blend_batch(const RenderBackwardJob& job, WarpSplat* splats, int count,
                                            const WarpPixels& pixels, const Bases& bases, GroupRows& h,
                                            GroupRows& w, Pixel& pixel) {
  const int lane = threadIdx.x % kWarp;
  for (int first = 0; first < count; first += kGroup) {
    WarpSplat* group = splats + first;
    const int size = min(kGroup, count - first);
    if constexpr (kFeatures) feature_values(job, group, size, pixels, h);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (i == size) break;
      const PixelTerms terms = blend_backward(group[i], pixels, kFeatures ? h.at(i, lane) : 0.f, pixel);
      h.at(i, lane) = terms.h;
      w.at(i, lane) = terms.w;
    }
    __syncwarp();
    write_group(h, w, bases, pixels, group, size);
  }
}

// --- sums over the warps of a tile ---

// Adds up the warps' sums of `count` splats: four numbers of a gradient per thread. Only the first three
// warps have something to do; it is a small part of a batch.
template <int kWarps>
__device__ __forceinline__ void write_gradients(const ListWalk& walk, const MomentsShared<kWarps>& shared,
                                                const uint32_t* gradient_ids, int count, float* gradients) {
  for (int item = threadIdx.x; item < 3 * count; item += kWarps * kWarp) {
    const int splat = item / 3, part = item % 3;
    float4 total = {0.f, 0.f, 0.f, 0.f};
    for (int warp = 0; warp < kWarps; ++warp) {
      const unsigned reached = shared.reached[warp];
      if (!(reached >> splat & 1)) continue;
      const WarpSplat* sums = walk.survivors_of(shared.stages[warp]) + __popc(reached & ((1u << splat) - 1));
      const float4 own = reinterpret_cast<const float4*>(sums)[part];
      total.x += own.x, total.y += own.y, total.z += own.z, total.w += own.w;
    }
    if (part == 2) total.z = total.w = 0.f;  // padding
    reinterpret_cast<float4*>(gradients + int64_t(gradient_ids[splat]) * kGradientStride)[part] = total;
  }
}

template <int kWarps>
__device__ __forceinline__ void clear_gradients(const TileLists& lists, const TileRange& range,
                                                float* gradients) {
  for (int e = range.processed + threadIdx.x; e < range.count; e += kWarps * kWarp) {
    float4* row =
        reinterpret_cast<float4*>(gradients + int64_t(lists.gradient_ids[range.begin + e]) * kGradientStride);
    for (int part = 0; part < 3; ++part) row[part] = {0.f, 0.f, 0.f, 0.f};
  }
}

// The blending sum's adjoint (Kerbl et al. 2023, there back to front), with sums per splat and tile instead
// of atomics. Threads: a block of 8 warps per tile of 16 x 16 pixels (2 for 8 x 8). Shared memory:
// MomentsShared, 48 KB for 8 warps, with features or without. 24 warps per multiprocessor, of up to 85
// registers; 16 or 8 where shared memory holds no more.
template <int kWarps, bool kFeatures>
__global__ void __launch_bounds__(kWarps* kWarp, 24 / kWarps) moments_backward(RenderBackwardJob job) {
  MomentsShared<kWarps>& shared = block_shared<MomentsShared<kWarps>>();
  const int warp = threadIdx.x / kWarp;
  const TileLists& lists = job.forward.lists;
  const TileRange range = tile_range(lists);
  const WarpPixels pixels = warp_pixels<1>(job.forward.raster);
  Pixel pixel = load_pixel<kFeatures>(job, pixels.x, pixels.y);
  const Bases bases = load_bases(pixel, shared.h[warp]);
  ListWalk walk(lists.gaussians + range.begin, range.processed, job.forward.splats, shared.stages[warp]);
  while (walk.end() < range.processed) {
    const int begin = walk.end();
    unsigned reached = walk.advance(pixels, kWarpHeight);
    if (__all_sync(kFullWarp, pixel.transmittance < 0.f)) reached = 0;
    blend_batch<kFeatures>(job, walk.survivors(), __popc(reached), pixels, bases, shared.h[warp],
                           shared.w[warp], pixel);
    if (threadIdx.x % kWarp == 0) shared.reached[warp] = reached;
    __syncthreads();
    write_gradients(walk, shared, lists.gradient_ids + range.begin + begin, walk.end() - begin,
                    job.gradients);
    __syncthreads();  // the next batch takes the place of the sums
  }
  clear_gradients<kWarps>(lists, range, job.gradients);
}

template <int kWarps, bool kFeatures>
void launch_moments(const RenderBackwardJob& job, cudaStream_t stream) {
  const Raster<float>& raster = job.forward.raster.raster;
  launch({"moments_backward", dim3(unsigned(raster.tiles_x) * unsigned(raster.tiles_y)), kWarps * kWarp,
          sizeof(MomentsShared<kWarps>), stream},
         moments_backward<kWarps, kFeatures>, job);
}

}  // namespace

void render_backward_moments(const RenderBackwardJob& job, cudaStream_t stream) {
  const bool large = job.forward.raster.tile == kLargeTile;
  if (large && job.features_move_geometry) return launch_moments<8, true>(job, stream);
  if (large) return launch_moments<8, false>(job, stream);
  if (job.features_move_geometry) return launch_moments<2, true>(job, stream);
  launch_moments<2, false>(job, stream);
}

}  // namespace splat::cuda

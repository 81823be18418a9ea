// A warp's share of a tile: its pixels, which splats of the tile's list reach them, and their alpha.
//
// Forward and backward share this, so that both find the same survivors and, bit for bit, the same alphas.
#pragma once

#include "jobs.h"
#include "scalar.h"
// after scalar.h: the blending functions call its exponential()
#include "splat/blend.h"

namespace splat::cuda {

// 2^e, to 2 ulp; 0 below the range.
__device__ __forceinline__ float power_of_two(float e) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(e));
  return result;
#else
  return exp2f(e);
#endif
}

// --- pixels ---

// Block = tile: blockIdx.x is its index. A warp has 8 pixels across and 4 x Rows down; a lane has `Rows`
// pixels, one above the other, kWarpHeight apart.
struct WarpPixels {
  int left, top;  // of the warp
  int x, y;       // of the lane's first pixel
};

template <int Rows>
__device__ __forceinline__ WarpPixels warp_pixels(const TiledRaster& raster) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int tile = blockIdx.x, across = raster.tile / kWarpWidth;
  WarpPixels p;
  p.left = tile % raster.raster.tiles_x * raster.tile + warp % across * kWarpWidth;
  p.top = tile / raster.raster.tiles_x * raster.tile + warp / across * (kWarpHeight * Rows);
  p.x = p.left + lane % kWarpWidth;
  p.y = p.top + lane / kWarpWidth;
  return p;
}

// --- splats ---

// A splat as a warp stores it: alpha = min(2^e, 0.99), e = lift + (xx dx + xy dy) dx + yy dy^2, with
// dx, dy = pixel minus mean. The powers of two and the logarithm of the opacity are taken once per warp and
// splat instead of once per pixel.
struct alignas(16) WarpSplat {
  float x, y, xx, xy;
  float yy, lift, depth, red;
  float green, blue;
  uint32_t gaussian;
  int32_t position;  // in the tile's list
};

__device__ __forceinline__ WarpSplat warp_splat(const Splat<float>& s, uint32_t gaussian, int position) {
  const float log2_e = 1.44269504f;
  return {s.x,
          s.y,
          -0.5f * log2_e * s.conic_xx,
          -log2_e * s.conic_xy,
          -0.5f * log2_e * s.conic_yy,
          __log2f(s.opacity),
          s.depth,
          s.red,
          s.green,
          s.blue,
          gaussian,
          position};
}

// The part of the exponent that the pixels of a column share. Fused by hand: every kernel rounds alike.
struct ColumnExponent {
  float base, slope;
};
__device__ __forceinline__ ColumnExponent column_exponent(const WarpSplat& s, float dx) {
  return {fmaf(__fmul_rn(s.xx, dx), dx, s.lift), __fmul_rn(s.xy, dx)};
}

__device__ __forceinline__ float exponent(const WarpSplat& s, const ColumnExponent& column, float dy) {
  return fmaf(fmaf(s.yy, dy, column.slope), dy, column.base);
}

__device__ __forceinline__ float warp_alpha(const WarpSplat& s, const ColumnExponent& column, float dy) {
  return fminf(power_of_two(exponent(s, column, dy)), float(kMaxAlpha));
}

__device__ __forceinline__ float clamped(float a, float low, float high) {
  return fminf(fmaxf(a, low), high);
}

// Whether alpha is 1/255 or more anywhere in the rectangle of the warp's pixel centres. The exponent is
// concave: its maximum is at the mean or on one of the two sides that face the mean, there at dx = slope_x dy
// (dy = slope_y dx) or at an end of the side. For a side that does not face the mean this is another point of
// the rectangle, which changes nothing.
__device__ __forceinline__ bool reaches(const WarpSplat& s, float slope_x, float slope_y, const WarpPixels& p,
                                        int height) {
  const float left = float(p.left) + 0.5f - s.x, right = left + float(kWarpWidth - 1);
  const float top = float(p.top) + 0.5f - s.y, bottom = top + float(height - 1);
  const float near_x = clamped(0, left, right), near_y = clamped(0, top, bottom);
  const float across = clamped(slope_x * near_y, left, right), down = clamped(slope_y * near_x, top, bottom);
  const float largest =
      fmaxf(exponent(s, column_exponent(s, near_x), down), exponent(s, column_exponent(s, across), near_y));
  // Slack against rounding, since every pixel is tested on its own: warps of every size must blend the same
  // splats. The exponent is a small difference of large terms, each evaluation of which errs by up to six
  // roundings (2^-24) of their sizes. Where these are no numbers, it is none either.
  const float far_x = fmaxf(fabsf(left), fabsf(right)), far_y = fmaxf(fabsf(top), fabsf(bottom));
  const float terms = (fabsf(s.xx) * far_x + fabsf(s.xy) * far_y) * far_x + fabsf(s.yy) * far_y * far_y;
  const float log2_255 = 7.99435344f, slack = 1e-2f + 1e-6f * terms;
  return is_finite(terms) && largest >= -(log2_255 + slack);
}

// --- the tile's list ---

// Starts a copy of 16 bytes from global to shared memory that needs no register on the way.
__device__ __forceinline__ void start_copy(float4* shared, const float4* global) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(shared))),
               "l"(global)
               : "memory");
#else
  __pipeline_memcpy_async(shared, global, sizeof(float4));  // at once on sm_75, later in the host shim
#endif
}

// Waits for the lane's own copies; a __syncwarp() makes them all visible to the warp.
__device__ __forceinline__ void finish_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  __pipeline_commit();
  __pipeline_wait_prior(0);
#endif
}

// Shared memory of one warp: 32 splats as they lie in global memory, in whose place the survivors are
// gathered, and the 32 that come next.
struct WarpStage {
  float4 quarters[2][kWarp * 4];
};
static_assert(sizeof(Splat<float>) == 4 * sizeof(float4) && sizeof(WarpSplat) <= sizeof(Splat<float>));

// One warp's walk through the list of its tile, front to back, 32 splats at a time and ahead of itself:
// while a batch is blended the splats of the next one are being copied, and the indices of the one after are
// being loaded. No barrier of the block is involved: every warp goes at its own speed.
class ListWalk {
 public:
  __device__ __forceinline__ ListWalk(const uint32_t* gaussians, int count, const Splat<float>* splats,
                                      WarpStage& stage)
      : gaussians_(gaussians), splats_(splats), stage_(stage), count_(count), lane_(threadIdx.x % kWarp) {
    next_ = load(0);
    copy(0);
    after_ = load(kWarp);
  }

  // Shared memory must not be given to another block while copies are under way.
  __device__ __forceinline__ ~ListWalk() { finish_copies(); }

  // Goes to the next batch, splats [begin, end) of the list, and returns those that reach the warp's pixels,
  // a bit each. They are then in survivors(), in order. Call while end() < count.
  __device__ __forceinline__ unsigned advance(const WarpPixels& pixels, int height) {
    finish_copies();
    __syncwarp();
    const int begin = end_;
    const uint32_t gaussian = next_;
    end_ = min(begin + kWarp, count_);
    buffer_ ^= 1;
    const Splat<float> splat = mine();
    next_ = after_;
    copy(end_);
    after_ = load(begin + 2 * kWarp);
    const WarpSplat s = warp_splat(splat, gaussian, begin + lane_);
    const bool reached = begin + lane_ < end_ && reaches(s, splat.slope_x, splat.slope_y, pixels, height);
    const unsigned mask = __ballot_sync(kFullWarp, reached);
    // The ballot also makes sure that every lane has read its splat before survivors overwrite it.
    __syncwarp();
    if (reached) survivors()[__popc(mask & ((1u << lane_) - 1))] = s;
    __syncwarp();
    return mask;
  }

  __device__ __forceinline__ int end() const { return end_; }  // splats visited so far
  __device__ __forceinline__ WarpSplat* survivors() const {
    return reinterpret_cast<WarpSplat*>(stage_.quarters[buffer_]);
  }
  // The survivors of another warp that is at the same batch of the same list.
  __device__ __forceinline__ const WarpSplat* survivors_of(const WarpStage& other) const {
    return reinterpret_cast<const WarpSplat*>(other.quarters[buffer_]);
  }

 private:
  __device__ __forceinline__ uint32_t load(int first) const {
    return first + lane_ < count_ ? gaussians_[first + lane_] : 0;
  }

  // Quarter q of splat s, placed such that neither copies nor reads meet in a bank.
  __device__ __forceinline__ static int place(int s, int q) { return 4 * s + (q ^ (s >> 1 & 3)); }

  // Four lanes per splat: a copy instruction touches 8 lines of memory instead of 32.
  __device__ __forceinline__ void copy(int first) {
    const int quarter = lane_ % 4;
    float4* const to = stage_.quarters[buffer_ ^ 1] + place(lane_ / 4, quarter);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int s = 8 * i + lane_ / 4;
      const uint32_t gaussian = __shfl_sync(kFullWarp, next_, s);
      // place() repeats every 8 splats
      if (first + s < count_)
        start_copy(to + 32 * i, reinterpret_cast<const float4*>(splats_ + gaussian) + quarter);
    }
  }

  __device__ __forceinline__ Splat<float> mine() const {
    const float4* q = stage_.quarters[buffer_];
    const float4 a = q[place(lane_, 0)], b = q[place(lane_, 1)], c = q[place(lane_, 2)],
                 d = q[place(lane_, 3)];
    return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w, c.x, c.y, c.z, c.w, d.x, d.y, d.z, d.w};
  }

  const uint32_t* gaussians_;
  const Splat<float>* splats_;
  WarpStage& stage_;
  int count_, lane_;
  int end_ = 0, buffer_ = 1;
  uint32_t next_, after_;  // Gaussians of this lane in the batches to come
};

}  // namespace splat::cuda

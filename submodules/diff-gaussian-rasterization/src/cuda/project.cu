// From Gaussians to the splats of each raster: projection, colour, visibility, and the number of tiles that
// each splat touches.
#include "gaussian.h"
#include "jobs.h"
#include "splat/sh.h"
#include "splat/tiles.h"

namespace splat::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kGivenColors = -1;  // in place of a degree: colours come per Gaussian
constexpr int kSums = 3;          // visible, tile intersections of both rasters

struct BlockSums {
  int of_warp[kSums][kWarps];
};

// --- checks ---

__global__ void start_counts(const float* pose, Counts* counts) {
  Counts fresh = {0, {0, 0}, UINT64_MAX, 0, 0};
  for (int k = 0; k < 16; ++k)
    if (!is_finite(pose[k])) fresh.bad_pose = 1;
  *counts = fresh;
}

// Of the Gaussians that the raster of the features may blend, a warp each. Those are read once more than
// blending reads them: the host must know before it waits for the last time.
__global__ void __launch_bounds__(kThreads)
    check_features(const float* features, int channels, const int32_t* tiles, int64_t count, Counts* counts) {
  const int64_t i = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (i >= count || tiles[i] == 0) return;
  bool bad = false;
  for (int c = threadIdx.x % kWarp; c < channels; c += kWarp) bad |= !is_finite(features[i * channels + c]);
  if (bad) atomicOr(&counts->bad_features, 1u);
}

// As the CPU does: the numbers add up to a finite one.
__device__ __forceinline__ bool parameters_finite(const Gaussians<float>& in, int64_t i, const Gaussian& g) {
  float sum = g.mean.x + g.mean.y + g.mean.z + g.opacity;
  if (in.offsets && !is_finite(in.offsets[2 * i] + in.offsets[2 * i + 1])) return false;
  if (in.covariances) {
    const Sym3<float>& c = g.covariance;
    return is_finite(sum + c.xx + c.xy + c.xz + c.yy + c.yz + c.zz);
  }
  const float* q = in.quaternions + 4 * i;
  return is_finite(sum + q[0] + q[1] + q[2] + q[3] + g.scale.x + g.scale.y + g.scale.z);
}

// --- colour ---

// Reads a Gaussian's first `kCount` numbers of harmonics, four at a time where they lie on such boundaries.
template <int kCount>
__device__ __forceinline__ void load_row(const float* row, float (&numbers)[kCount]) {
  if (kCount % 4 == 0 && reinterpret_cast<uintptr_t>(row) % sizeof(float4) == 0) {
#pragma unroll
    for (int k = 0; k < kCount / 4; ++k) {
      const float4 part = reinterpret_cast<const float4*>(row)[k];
      numbers[4 * k] = part.x, numbers[4 * k + 1] = part.y;
      numbers[4 * k + 2] = part.z, numbers[4 * k + 3] = part.w;
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) numbers[k] = row[k];
}

// Before negative values are clamped.
template <int kDegree>
__device__ __forceinline__ Vec3<float> color_of(const Camera<float>& camera, const Gaussians<float>& in,
                                                int64_t i, const Vec3<float>& mean) {
  if constexpr (kDegree == kGivenColors) {
    return {in.colors[3 * i], in.colors[3 * i + 1], in.colors[3 * i + 2]};
  } else {
    constexpr int kBases = sh_bases(kDegree);
    float basis[kMaxShBases], sh[3 * kBases];
    load_row(in.sh + i * (3 * in.sh_bases), sh);
    sh_basis(kDegree, view_direction(camera, mean).unit, basis);
    Vec3<float> rgb = {0.5f, 0.5f, 0.5f};
#pragma unroll
    for (int k = 0; k < kBases; ++k) {
      rgb.x += basis[k] * sh[3 * k];
      rgb.y += basis[k] * sh[3 * k + 1];
      rgb.z += basis[k] * sh[3 * k + 2];
    }
    return rgb;
  }
}

// --- splats ---

struct Shape {
  Splat<float> splat;  // without colour
  float radius;        // pixels
  bool visible;
};

// binning.cu evaluates some of these expressions again. They use product(), which no compiler fuses with what
// follows: both kernels must count the same tiles.
__device__ __forceinline__ Shape shape_of(const Camera<float>& camera, const Raster<float>& raster,
                                          float base_opacity, const Projection<float>& p) {
  const Footprint<float> f = footprint(scaled(p.covariance, raster), camera.low_pass, camera.antialiased);
  const float opacity = base_opacity * f.compensation;
  // 2 ln(255 opacity): the squared Mahalanobis radius at which alpha falls to 1/255
  const float reach_sq = opacity > 0.f ? 2.f * logf(opacity * 255.f) : -1.f;
  const float reach = square_root(maximum(reach_sq, 0.f));
  const float x = product(p.mean.x, raster.scale_x), y = product(p.mean.y, raster.scale_y);
  const float extent_x = product(reach, square_root(f.filtered.xx));
  const float extent_y = product(reach, square_root(f.filtered.yy));
  Shape s;
  s.visible = reach_sq >= 0.f && f.det > 0.f && x + extent_x >= 0.5f && y + extent_y >= 0.5f &&
              x - extent_x <= float(raster.width) - 0.5f && y - extent_y <= float(raster.height) - 0.5f &&
              is_finite(f.conic.xx + f.conic.xy + f.conic.yy + x + y);
  const float middle = (f.filtered.xx + f.filtered.yy) * 0.5f;
  s.radius = reach * square_root(middle + square_root(maximum(middle * middle - f.det, 0.f)));
  s.splat = {x,
             y,
             f.conic.xx,
             f.conic.xy,
             f.conic.yy,
             opacity,
             p.point.z,
             0.f,
             0.f,
             0.f,
             extent_x,
             extent_y,
             -f.conic.xy / f.conic.xx,
             reach / square_root(f.conic.xx),
             -f.conic.xy / f.conic.yy,
             reach / square_root(f.conic.yy)};
  return s;
}

__device__ __forceinline__ int count_tiles(const TiledRaster& raster, const Splat<float>& s) {
  const Range rows = touched_rows(s, raster.tile, raster.raster.tiles_y);
  int count = 0;
  for (int row = rows.first; row <= rows.last; ++row) {
    const Range columns = touched_columns(s, raster.tile, raster.raster.tiles_x, row);
    count += max(columns.last - columns.first + 1, 0);
  }
  return count;
}

// Writes everything about Gaussian i and returns what it adds to the sums over all Gaussians.
template <int kDegree>
__device__ __forceinline__ void project_one(const ProjectJob& job, const Camera<float>& camera, int64_t i,
                                            int (&sums)[kSums]) {
  const Gaussian g = load_gaussian(job.in, i);
  bool finite = parameters_finite(job.in, i, g), visible = false;
  int32_t radius = 0;
  const Vec3<float> point = camera_point(camera, g.mean);
  Projection<float> p;
  const bool in_front = point.z >= camera.near_plane;
  if (in_front) {
    p = project(camera, point, g.covariance);
    if (job.in.offsets) {
      p.mean.x += job.in.offsets[2 * i];
      p.mean.y += job.in.offsets[2 * i + 1];
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (r >= job.rasters) break;
    const TiledRaster& raster = job.raster[r];
    Shape s;
    s.visible = false;
    if (in_front) s = shape_of(camera, raster.raster, g.opacity, p);
    int32_t tiles = 0;
    if (s.visible) {
      visible = true;
      tiles = count_tiles(raster, s.splat);
      if (r == 0) {
        radius = s.radius > 1.f ? int32_t(ceilf(fminf(s.radius, 1e9f))) : 1;
        const Vec3<float> rgb = color_of<kDegree>(camera, job.in, i, g.mean);
        finite = finite && is_finite(rgb.x + rgb.y + rgb.z);
        const float least = kDegree == kGivenColors ? -INFINITY : 0.f;
        s.splat.red = fmaxf(rgb.x, least);
        s.splat.green = fmaxf(rgb.y, least);
        s.splat.blue = fmaxf(rgb.z, least);
      }
      job.splats[r][i] = s.splat;
    } else {
      job.splats[r][i].extent_x = -1.f;  // nothing else of it is read
    }
    job.tiles[r][i] = tiles;
    sums[1 + r] = tiles;
  }
  job.radii[i] = radius;
  job.visible[i] = visible;
  job.depths[i] = point.z;
  sums[0] = visible;
  if (!finite) atomicMin(reinterpret_cast<unsigned long long*>(&job.counts->invalid), i);
}

// One integer atomic per block and sum: the order does not matter.
__device__ __forceinline__ void add_sums(int (&sums)[kSums], Counts* counts) {
  BlockSums& shared = block_shared<BlockSums>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int k = 0; k < kSums; ++k) {
    for (int other = kWarp / 2; other > 0; other /= 2) sums[k] += __shfl_xor_sync(kFullWarp, sums[k], other);
    if (lane == 0) shared.of_warp[k][warp] = sums[k];
  }
  __syncthreads();
  if (threadIdx.x >= kSums) return;
  unsigned long long total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared.of_warp[threadIdx.x][w];
  int64_t* const into = threadIdx.x == 0 ? &counts->visible : &counts->intersections[threadIdx.x - 1];
  if (total) atomicAdd(reinterpret_cast<unsigned long long*>(into), total);
}

template <int kDegree>
__global__ void __launch_bounds__(kThreads) project_kernel(ProjectJob job) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  int sums[kSums] = {};
  if (i < job.in.count) project_one<kDegree>(job, posed(job.camera, job.pose), i, sums);
  add_sums(sums, job.counts);
}

template <int kDegree>
void launch_project(const ProjectJob& job, cudaStream_t stream) {
  launch({"project", blocks_for(job.in.count, kThreads), kThreads, sizeof(BlockSums), stream},
         project_kernel<kDegree>, job);
}

void launch_project_of_degree(const ProjectJob& job, cudaStream_t stream) {
  if (job.in.colors) return launch_project<kGivenColors>(job, stream);
  switch (job.in.sh_degree) {
    case 0:
      return launch_project<0>(job, stream);
    case 1:
      return launch_project<1>(job, stream);
    case 2:
      return launch_project<2>(job, stream);
    default:
      return launch_project<3>(job, stream);
  }
}

}  // namespace

void project(const ProjectJob& job, cudaStream_t stream) {
  launch({"start_counts", dim3(1), 1, 0, stream}, start_counts, job.pose, job.counts);
  launch_project_of_degree(job, stream);
  if (!job.in.features) return;
  launch({"check_features", blocks_for(job.in.count, kWarps), kThreads, 0, stream}, check_features,
         job.in.features, job.in.channels, job.tiles[job.rasters - 1], job.in.count, job.counts);
}

}  // namespace splat::cuda

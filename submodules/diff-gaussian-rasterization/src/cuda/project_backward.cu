// From per-intersection gradients to the caller's: a thread per visible Gaussian sums its own and walks the
// projection back, a warp per Gaussian sums its features. Every sum has a fixed order.
#include "color_backward.h"
#include "gaussian.h"
#include "jobs.h"

namespace splat::cuda {
namespace {

constexpr int kThreads = 128;  // of a block that projects back
constexpr int kWarps = kThreads / kWarp;
constexpr int64_t kManyIntersections =
    64;  // from here on the gradients of a Gaussian are summed by its whole warp
constexpr int kPose = 12;

// --- per-intersection gradients ---

__device__ __forceinline__ void add_gradient(const float* gradients, int64_t at,
                                             float (&sums)[kGradientStride]) {
  const float4* row = reinterpret_cast<const float4*>(gradients + at * kGradientStride);
#pragma unroll
  for (int k = 0; k < kGradientStride; k += 4) {
    const float4 part = row[k / 4];
    sums[k] += part.x, sums[k + 1] += part.y, sums[k + 2] += part.z, sums[k + 3] += part.w;
  }
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int other = kWarp / 2; other > 0; other /= 2) value += __shfl_xor_sync(kFullWarp, value, other);
  return value;
}

// The sums over the intersections of this lane's Gaussian, of rank `rank`; all lanes of a warp together. A
// Gaussian that fills the view may have thousands: the whole warp sums those, so that no lane waits for one
// other.
__device__ __forceinline__ void sum_gradients(const float* gradients, const int64_t* gaussian_begin,
                                              int64_t rank, bool exists, float (&sums)[kGradientStride]) {
  for (float& sum : sums) sum = 0.f;
  const int64_t begin = exists ? gaussian_begin[rank] : 0, end = exists ? gaussian_begin[rank + 1] : 0;
  const bool alone = end - begin < kManyIntersections;
  for (int64_t at = begin; alone && at < end; ++at) add_gradient(gradients, at, sums);
  const int lane = threadIdx.x % kWarp;
  for (unsigned many = __ballot_sync(kFullWarp, !alone); many; many &= many - 1) {
    const int owner = __ffs(many) - 1;
    const int64_t last = gaussian_begin[rank - lane + owner + 1];
    float share[kGradientStride] = {};
    for (int64_t at = gaussian_begin[rank - lane + owner] + lane; at < last; at += kWarp)
      add_gradient(gradients, at, share);
#pragma unroll
    for (int k = 0; k < kGradientStride; ++k) {
      const float total = warp_sum(share[k]);
      if (lane == owner) sums[k] = total;
    }
  }
}

// --- geometry ---

struct ScreenGradient {
  Vec2<float> mean;  // by the camera's pixels
  Sym2<float> covariance;
  float opacity;
};

// From the moments of one raster to the gradients by projected mean, covariance and opacity.
__device__ __forceinline__ void add_screen_gradient(const Camera<float>& camera, const Raster<float>& raster,
                                                    const Projection<float>& p, float opacity,
                                                    const float* sums, ScreenGradient& d) {
  const Sym2<float> raw = scaled(p.covariance, raster);
  const Footprint<float> f = footprint(raw, camera.low_pass, camera.antialiased);
  const float dx = -(f.conic.xx * sums[kHx] + f.conic.xy * sums[kHy]);
  const float dy = -(f.conic.xy * sums[kHx] + f.conic.yy * sums[kHy]);
  const Sym2<float> d_conic = {0.5f * sums[kHxx], sums[kHxy], 0.5f * sums[kHyy]};
  const float effective = opacity * f.compensation;
  float by_opacity = effective > 0.f ? -sums[kH] / effective : 0.f;
  const Sym2<float> back = scaled(
      footprint_adjoint(raw, f, camera.low_pass, camera.antialiased, opacity, d_conic, by_opacity), raster);
  d.mean = {d.mean.x + dx * raster.scale_x, d.mean.y + dy * raster.scale_y};
  d.covariance = {d.covariance.xx + back.xx, d.covariance.xy + back.xy, d.covariance.yy + back.yy};
  d.opacity += by_opacity;
}

// The projection of a visible Gaussian, again.
__device__ __forceinline__ Projection<float> projection_of(const Camera<float>& camera,
                                                           const Gaussians<float>& in, int64_t i,
                                                           const Gaussian& g) {
  Projection<float> p = project(camera, camera_point(camera, g.mean), g.covariance);
  if (in.offsets) p.mean = {p.mean.x + in.offsets[2 * i], p.mean.y + in.offsets[2 * i + 1]};
  return p;
}

__device__ __forceinline__ void store(float* array, int64_t i, const Vec3<float>& v) {
  if (!array) return;
  array[3 * i] = v.x, array[3 * i + 1] = v.y, array[3 * i + 2] = v.z;
}

__device__ __forceinline__ void store_gradients(const ProjectBackwardJob& job, int64_t i, const Gaussian& g,
                                                const Vec3<float>& d_mean, const Sym3<float>& d_covariance,
                                                const ScreenGradient& d) {
  const GaussianGradients<float>& out = job.out;
  store(out.means, i, d_mean);
  if (out.opacities) out.opacities[i] = d.opacity;
  if (out.offsets) out.offsets[2 * i] = d.mean.x, out.offsets[2 * i + 1] = d.mean.y;
  if (job.forward.in.covariances) {
    if (!out.covariances) return;
    store(out.covariances, 2 * i, {d_covariance.xx, d_covariance.xy, d_covariance.xz});
    store(out.covariances, 2 * i + 1, {d_covariance.yy, d_covariance.yz, d_covariance.zz});
    return;
  }
  if (!out.quaternions && !out.scales) return;
  Quaternion<float> dq;
  Vec3<float> ds;
  covariance_adjoint(g.axes, g.scale, d_covariance, dq, ds);
  store(out.scales, i, ds);
  if (!out.quaternions) return;
  float* q = out.quaternions + 4 * i;
  q[0] = dq.w, q[1] = dq.x, q[2] = dq.y, q[3] = dq.z;
}

// --- the pose ---

// Writes the sum of a block's pose gradients to column `blockIdx.x` of partials [12, blocks].
__device__ __forceinline__ void reduce_pose(const PoseGradient<float>& own, float (*warps)[kPose],
                                            double* partials) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
  for (int k = 0; k < kPose; ++k) {
    const float total = warp_sum(k < 9 ? own.rotation[k % 9] : own.translation[k % 3]);
    if (lane == 0) warps[warp][k] = total;
  }
  __syncthreads();
  if (threadIdx.x >= kPose) return;
  double total = 0.0;
  for (int w = 0; w < kWarps; ++w) total += double(warps[w][threadIdx.x]);
  partials[int64_t(threadIdx.x) * gridDim.x + blockIdx.x] = total;
}

constexpr int kPoseThreads = 256;
struct PoseShared {
  double warps[kPoseThreads / kWarp];
};

// Block k adds up row k of partials [12, count].
__global__ void __launch_bounds__(kPoseThreads) sum_pose(const double* partials, int64_t count, float* pose) {
  PoseShared& shared = block_shared<PoseShared>();
  double own = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kPoseThreads) own += partials[blockIdx.x * count + i];
  own = warp_sum(own);
  if (threadIdx.x % kWarp == 0) shared.warps[threadIdx.x / kWarp] = own;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0.0;
  for (const double each : shared.warps) total += each;
  pose[blockIdx.x] = float(total);
}

// --- one Gaussian ---

template <int kDegree>
struct GaussianShared {
  Rows<kColorRow<kDegree>> rows[kWarps];
  float pose[kWarps][kPose];
};

// Whether a Gaussian touches a tile in any raster: all others keep their zero gradients.
__device__ __forceinline__ bool has_gradients(const ProjectBackwardJob& job, int64_t rank) {
  bool seen = false;
  for (int r = 0; r < job.forward.rasters; ++r)
    seen |= job.gradients[r] && job.gaussian_begin[r][rank] != job.gaussian_begin[r][rank + 1];
  return seen;
}

// Sums, colours and shapes one after the other, so that few registers are in use at a time. Lanes without a
// Gaussian compute values that are not stored.
template <int kDegree>
__global__ void __launch_bounds__(kThreads, 4) gaussian_backward(ProjectBackwardJob job) {
  GaussianShared<kDegree>& shared = block_shared<GaussianShared<kDegree>>();
  const Gaussians<float>& in = job.forward.in;
  const int64_t rank = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const bool exists = rank < job.visible, seen = exists && has_gradients(job, rank);
  const int64_t i = job.order[exists ? rank : 0];
  const Camera<float> camera = posed(job.forward.camera, job.forward.pose);
  Vec3<float> d_mean = {};
  PoseGradient<float> d_pose = {};
  float sums[2][kGradientStride] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (job.gradients[r]) sum_gradients(job.gradients[r], job.gaussian_begin[r], rank, exists, sums[r]);
  if (job.gradients[0])
    color_backward<kDegree>(camera, job, seen ? uint32_t(i) : UINT32_MAX, load_mean(in, i), sums[0] + kDRed,
                            shared.rows[threadIdx.x / kWarp], d_mean, d_pose);
  const Gaussian g = load_gaussian(in, i);
  const Projection<float> p = projection_of(camera, in, i, g);
  ScreenGradient d = {};
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (job.gradients[r]) add_screen_gradient(camera, job.forward.raster[r].raster, p, g.opacity, sums[r], d);
  const Sym3<float> d_covariance = project_adjoint(camera, g.mean, g.covariance, p, d.mean, d.covariance,
                                                   sums[0][kDDepth], d_mean, d_pose);
  if (seen) store_gradients(job, i, g, d_mean, d_covariance, d);
  if (!job.pose_partials) return;
  reduce_pose(seen ? d_pose : PoseGradient<float>{}, shared.pose, job.pose_partials);
}

// --- features ---

constexpr int kFeatureWarps = 8;
constexpr int64_t kManyRows = 64;  // from here on a Gaussian's rows are summed by its whole block

// As many neighbouring channels as a lane adds up at a time.
template <int kWidth>
struct alignas(4 * kWidth) Channels {
  float at[kWidth];
};

template <int kWidth>
struct FeatureShared {
  Channels<kWidth> warps[kFeatureWarps][kWarp];
};

// Rows first, first + step ... before `last` of those written, at channels c ... of them; all lanes of a warp
// together. Their flags come first, so that several rows can be on their way at once.
template <int kWidth>
__device__ __forceinline__ Channels<kWidth> sum_rows(const FeatureSum& sum, int64_t first, int64_t last,
                                                     int step, int c) {
  Channels<kWidth> total = {};
  const int lane = threadIdx.x % kWarp;
  const float* column = sum.rows.at + (c < sum.rows.channels ? c : 0);  // a surplus lane stores nothing
  for (; first < last; first += kWarp * step) {
    const int64_t own = first + lane * step;
    unsigned written = __ballot_sync(kFullWarp, own < last && sum.rows.written[own]);
    const int count = __popc(written);
#pragma unroll 4
    for (int i = 0; i < count; ++i, written &= written - 1) {
      const int64_t row = first + (__ffs(int(written)) - 1) * step;
      const auto part = *reinterpret_cast<const Channels<kWidth>*>(column + row * sum.rows.stride);
      for (int k = 0; k < kWidth; ++k) total.at[k] += part.at[k];
    }
  }
  return total;
}

template <int kWidth>
__device__ __forceinline__ void store_features(const FeatureSum& sum, int64_t rank, int c,
                                               const Channels<kWidth>& total) {
  float* const out = sum.out + int64_t(sum.order[rank]) * sum.channels + sum.rows.first_channel;
  if (c < sum.rows.channels) *reinterpret_cast<Channels<kWidth>*>(out + c) = total;
}

// All warps of the block for one Gaussian: each takes every eighth row.
template <int kWidth>
__device__ void sum_long(const FeatureSum& sum, int64_t rank, FeatureShared<kWidth>& shared) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int c = 0; c < sum.rows.channels; c += kWidth * kWarp) {
    const int own = c + kWidth * lane;
    shared.warps[warp][lane] = sum_rows<kWidth>(sum, sum.gaussian_begin[rank] + warp,
                                                sum.gaussian_begin[rank + 1], kFeatureWarps, own);
    __syncthreads();
    if (warp == 0) {
      Channels<kWidth> total = {};
      for (int w = 0; w < kFeatureWarps; ++w)
        for (int k = 0; k < kWidth; ++k) total.at[k] += shared.warps[w][lane].at[k];
      store_features(sum, rank, own, total);
    }
    __syncthreads();
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kFeatureWarps* kWarp) feature_backward(FeatureSum sum) {
  FeatureShared<kWidth>& shared = block_shared<FeatureShared<kWidth>>();
  const int64_t first = int64_t(blockIdx.x) * kFeatureWarps;
  const int64_t rank = first + threadIdx.x / kWarp;
  if (rank < sum.visible) {
    const int64_t begin = sum.gaussian_begin[rank], end = sum.gaussian_begin[rank + 1];
    if (end - begin < kManyRows)
      for (int c = 0; c < sum.rows.channels; c += kWidth * kWarp) {
        const int own = c + kWidth * int(threadIdx.x % kWarp);
        store_features(sum, rank, own, sum_rows<kWidth>(sum, begin, end, 1, own));
      }
  }
  for (int64_t each = first; each < first + kFeatureWarps && each < sum.visible; ++each)
    if (sum.gaussian_begin[each + 1] - sum.gaussian_begin[each] >= kManyRows) sum_long(sum, each, shared);
}

// --- launches ---

template <int kDegree>
void launch_gaussians(const ProjectBackwardJob& job, cudaStream_t stream) {
  launch({"gaussian_backward", blocks_for(job.visible, kThreads), kThreads, sizeof(GaussianShared<kDegree>),
          stream},
         gaussian_backward<kDegree>, job);
}

void launch_gaussians(const ProjectBackwardJob& job, cudaStream_t stream) {
  const int degree = job.forward.in.colors ? kGivenColors : job.forward.in.sh_degree;
  if (degree == kGivenColors) return launch_gaussians<kGivenColors>(job, stream);
  if (degree == 0) return launch_gaussians<0>(job, stream);
  if (degree == 1) return launch_gaussians<1>(job, stream);
  if (degree == 2) return launch_gaussians<2>(job, stream);
  launch_gaussians<3>(job, stream);
}

template <int kWidth>
void launch_features(const FeatureSum& sum, cudaStream_t stream) {
  launch({"feature_backward", blocks_for(sum.visible, kFeatureWarps), kFeatureWarps * kWarp,
          sizeof(FeatureShared<kWidth>), stream},
         feature_backward<kWidth>, sum);
}

}  // namespace

void sum_features(const FeatureSum& sum, cudaStream_t stream) {
  // 64 channels are 32 lanes of two; an odd row would leave the next one unaligned.
  if (sum.channels % 2 == 0 && sum.rows.channels > kWarp)
    launch_features<2>(sum, stream);
  else
    launch_features<1>(sum, stream);
}

int64_t pose_partials(int64_t visible) { return kPose * int64_t(blocks_for(visible, kThreads).x); }

void project_backward(const ProjectBackwardJob& job, cudaStream_t stream) {
  launch_gaussians(job, stream);
  if (!job.out.pose) return;
  launch({"sum_pose", dim3(kPose), kPoseThreads, sizeof(PoseShared), stream}, sum_pose,
         static_cast<const double*>(job.pose_partials), pose_partials(job.visible) / kPose, job.out.pose);
}

}  // namespace splat::cuda

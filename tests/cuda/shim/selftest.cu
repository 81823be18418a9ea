// Small kernels that prove the shim itself: what works must work, and what is wrong must be found out.
#include "selftest.h"

#include "feature_values.h"
#include "multiply.h"

namespace splat::cuda::selftest {
namespace {

struct Partial {
  float sums[32];
};

__global__ void __launch_bounds__(1024) sum_blocks(const float* in, float* out, int64_t count, bool barrier) {
  Partial& shared = block_shared<Partial>();
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float sum = i < count ? __ldg(in + i) : 0.f;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(kFullWarp, sum, offset);
  if (threadIdx.x % kWarp == 0) shared.sums[threadIdx.x / kWarp] = sum;
  if (barrier) __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) total += shared.sums[w];
  out[blockIdx.x] = total;
}

// [5, 32]: up, xor within eights, broadcast of lane 3 of each eight, ballot of the odd lanes, lanes of the
// same third.
__global__ void warp_functions(uint32_t* out) {
  const unsigned lane = threadIdx.x;
  out[lane] = __shfl_up_sync(kFullWarp, lane * 10, 2);
  out[32 + lane] = __shfl_xor_sync(kFullWarp, lane, 5, 8);
  out[64 + lane] = __shfl_sync(kFullWarp, lane, 3, 8);
  out[96 + lane] = __ballot_sync(kFullWarp, lane % 2);
  out[128 + lane] = __match_any_sync(kFullWarp, lane % 3);
}

// Two halves of a warp that go their own ways: each finds the sum of its own lanes.
__global__ void half_warps(uint32_t* out) {
  const unsigned lane = threadIdx.x, mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  unsigned sum = lane;
  if (lane < 16)
    for (int offset = 8; offset > 0; offset /= 2) sum += __shfl_xor_sync(mask, sum, offset);
  else
    sum = __reduce_add_sync(mask, lane);
  out[lane] = sum;
}

__global__ void histogram(const int32_t* in, int64_t count, int32_t* bins, float* sum, uint32_t* largest) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int odd = __syncthreads_count(i < count && in[i] % 2);
  if (threadIdx.x == 0) atomicAdd(bins + 4, odd);
  if (i >= count) return;
  atomicAdd(bins + in[i] % 4, 1);
  atomicAdd(sum, 0.5f);
  atomicMax(largest, uint32_t(in[i]));
}

// The order in which unsynchronised threads come by.
__global__ void arrivals(int32_t* next, int32_t* out) {
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
}

__global__ void pipeline(const float* in, float* out, bool wait) {
  Partial& shared = block_shared<Partial>();
  const unsigned lane = threadIdx.x;
  __pipeline_memcpy_async(&shared.sums[lane], in + lane, sizeof(float));
  __pipeline_commit();
  if (wait) __pipeline_wait_prior(0);
  __syncwarp();
  out[lane] = shared.sums[31 - lane];
}

__global__ void broken(Fault fault, float* out) {
  const unsigned t = threadIdx.x, lane = t % kWarp;
  if (fault == Fault::kDivergentBarrier) {
    if (t < 40) __syncthreads();
    __syncwarp();
  } else if (fault == Fault::kTwoBarriers) {
    if (t < 32)
      __syncthreads();
    else
      __syncthreads();
  } else if (fault == Fault::kNotInMask) {
    out[t] = __shfl_sync(0x0000ffffu, float(lane), 0);
  } else if (fault == Fault::kMissingLane) {
    if (lane < 20)
      out[t] = __shfl_sync(kFullWarp, float(lane), 0);
    else
      __syncthreads();
  } else if (fault == Fault::kDifferentCollectives) {
    out[t] = lane < 16 ? __shfl_sync(kFullWarp, float(lane), 0) : float(__ballot_sync(kFullWarp, 1));
  } else if (fault == Fault::kReadsOutsideMask) {
    if (lane < 16) out[t] = __shfl_sync(0x0000ffffu, float(lane), 20);
  } else if (fault == Fault::kSharedTooSmall) {
    out[t] = block_shared<Partial>().sums[lane];
  } else if (fault == Fault::kSharedOverrun) {
    reinterpret_cast<float*>(&block_shared<float>())[t] = 0.f;
  } else if (fault == Fault::kWritesBehind) {
    out[t] = 1.f;
  }
}

struct ValuesShared {
  WarpSplat group[kGroup];
  GroupRows rows;
};

__global__ void values_of(ValuesJob given, float* out) {
  ValuesShared& shared = block_shared<ValuesShared>();
  const int lane = int(threadIdx.x);
  RenderBackwardJob job{};
  job.forward.raster.raster.width = given.width;
  job.forward.raster.raster.height = given.height;
  job.forward.features = given.features;
  job.forward.channels = given.channels;
  job.d.features = given.gradients;
  if (lane < kGroup) shared.group[lane].gaussian = lane < given.count ? uint32_t(lane) : UINT32_MAX;
  __syncwarp();
  const WarpPixels pixels = {given.left, given.top, given.left + lane % kWarpWidth,
                             given.top + lane / kWarpWidth};
  feature_values(job, shared.group, given.count, pixels, shared.rows);
  for (int splat = 0; splat < kGroup; ++splat) out[kGroup * lane + splat] = shared.rows.at(splat, lane);
}

}  // namespace

void run_sum_blocks(const float* in, float* out, int64_t count, int threads, bool barrier) {
  launch({"sum_blocks", blocks_for(count, threads), threads, sizeof(Partial), {}}, sum_blocks, in, out, count,
         barrier);
}
void run_warp_functions(uint32_t* out) {
  launch({"warp_functions", dim3(1), 32, 0, {}}, warp_functions, out);
}
void run_half_warps(uint32_t* out) { launch({"half_warps", dim3(1), 32, 0, {}}, half_warps, out); }
void run_histogram(const int32_t* in, int64_t count, int threads, int32_t* bins, float* sum,
                   uint32_t* largest) {
  launch({"histogram", blocks_for(count, threads), threads, 0, {}}, histogram, in, count, bins, sum, largest);
}
void run_arrivals(int32_t* next, int32_t* out, int blocks, int threads) {
  launch({"arrivals", dim3(unsigned(blocks)), threads, 0, {}}, arrivals, next, out);
}
void run_pipeline(const float* in, float* out, bool wait) {
  launch({"pipeline", dim3(1), 32, sizeof(Partial), {}}, pipeline, in, out, wait);
}
void run_broken(Fault fault, float* out, int threads, size_t shared_bytes) {
  launch({"broken", dim3(1), threads, shared_bytes, {}}, broken, fault, out);
}
Split run_split(float a) { return split(a); }
Split run_split_both(uint32_t a) { return split_both(__uint_as_float(a)); }
float run_round_rest(uint32_t a) { return round_rest(a); }

void run_feature_values(const ValuesJob& job, float* out) {
  launch({"values_of", dim3(1), kWarp, sizeof(ValuesShared), {}}, values_of, job, out);
}

}  // namespace splat::cuda::selftest

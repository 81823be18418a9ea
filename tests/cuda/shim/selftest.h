// What selftest.cu offers to test_shim.py.
#pragma once

#include "mma.h"

namespace splat::cuda::selftest {

// The ways in which run_broken() breaks the rules.
enum class Fault {
  kDivergentBarrier,      // part of a block, and part of a warp, at __syncthreads
  kTwoBarriers,           // two branches, each with its own __syncthreads
  kNotInMask,             // a lane calls with a mask that leaves it out
  kMissingLane,           // some lanes of the mask wait elsewhere
  kDifferentCollectives,  // a shuffle meets a ballot
  kReadsOutsideMask,      // a shuffle reads a lane that takes no part
  kSharedTooSmall,        // the kernel's shared memory is larger than the launch's
  kSharedOverrun,         // writes behind its shared memory
  kWritesBehind,          // writes behind its output
};

void run_sum_blocks(const float* in, float* out, int64_t count, int threads, bool barrier);
void run_warp_functions(uint32_t* out);
void run_half_warps(uint32_t* out);
void run_histogram(const int32_t* in, int64_t count, int threads, int32_t* bins, float* sum,
                   uint32_t* largest);
void run_arrivals(int32_t* next, int32_t* out, int blocks, int threads);
// `wait`: for the asynchronous copy of `in` [32] to shared memory before it is read, as one must.
void run_pipeline(const float* in, float* out, bool wait);
void run_broken(Fault fault, float* out, int threads, size_t shared_bytes);
Split run_split(float a);
Split run_split_both(uint32_t a);  // the bits of a float: a NaN keeps its payload
float run_round_rest(uint32_t a);
void run_multiply(const float* a, const float* b, float* d, bool full);
// Values [32, 8] of features [8, channels], of which the last splats are missing, by gradients [channels,
// height, width] at the 8 x 4 pixels whose corner is (left, top).
struct ValuesJob {
  const float *features, *gradients;
  int channels, width, height, left, top, count;
};
void run_feature_values(const ValuesJob& job, float* out);

}  // namespace splat::cuda::selftest

// Adam, bound by memory: every number is read and written once, several parameters by one launch.
#include <algorithm>

#include "scalar.h"
#include "training.h"

namespace splat::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBatch = 8;       // parameters of one launch: a map's, within the 4 KB of a kernel's arguments
constexpr int kPerThread = 16;  // numbers, in steps of 4

struct Batch {
  AdamJob<float> jobs[kBatch];
  int64_t first_block[kBatch + 1];  // of each job
  bool vectors[kBatch];             // whether four numbers at a time are aligned and of one row
};

__device__ void step_number(const AdamJob<float>& job, int64_t i) {
  if (job.visible && !job.visible[i / job.width]) return;
  float value = job.value[i], mean = job.mean[i], square = job.square[i];
  adam<float, float>(job.step, job.gradient[i], value, mean, square);
  job.value[i] = value;
  job.mean[i] = mean;
  job.square[i] = square;
}

// Numbers 4 i to 4 i + 3, aligned to 16 bytes.
__device__ void step_four(const AdamJob<float>& job, int64_t i) {
  if (job.visible && !job.visible[4 * i / job.width]) return;
  const float4 gradient = *reinterpret_cast<const float4*>(job.gradient + 4 * i);
  float4& at_value = *reinterpret_cast<float4*>(job.value + 4 * i);
  float4& at_mean = *reinterpret_cast<float4*>(job.mean + 4 * i);
  float4& at_square = *reinterpret_cast<float4*>(job.square + 4 * i);
  float4 value = at_value, mean = at_mean, square = at_square;
  adam<float, float>(job.step, gradient.x, value.x, mean.x, square.x);
  adam<float, float>(job.step, gradient.y, value.y, mean.y, square.y);
  adam<float, float>(job.step, gradient.z, value.z, mean.z, square.z);
  adam<float, float>(job.step, gradient.w, value.w, mean.w, square.w);
  at_value = value;
  at_mean = mean;
  at_square = square;
}

__global__ void adam_kernel(Batch batch) {
  int which = 0;
  while (int64_t(blockIdx.x) >= batch.first_block[which + 1]) ++which;
  const AdamJob<float>& job = batch.jobs[which];
  const int64_t threads = (batch.first_block[which + 1] - batch.first_block[which]) * blockDim.x;
  const int64_t first = (int64_t(blockIdx.x) - batch.first_block[which]) * blockDim.x + threadIdx.x;
  const int64_t numbers = job.rows * job.width, fours = batch.vectors[which] ? numbers / 4 : 0;
  for (int64_t i = first; i < fours; i += threads) step_four(job, i);
  for (int64_t i = 4 * fours + first; i < numbers; i += threads) step_number(job, i);
}

bool takes_vectors(const AdamJob<float>& job) {
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(job.value) |
                              reinterpret_cast<uintptr_t>(job.gradient) |
                              reinterpret_cast<uintptr_t>(job.mean) | reinterpret_cast<uintptr_t>(job.square);
  return addresses % 16 == 0 && (!job.visible || job.width % 4 == 0);
}

}  // namespace

void adam(const std::vector<AdamJob<float>>& jobs, cudaStream_t stream) {
  for (size_t begin = 0; begin < jobs.size(); begin += kBatch) {
    Batch batch{};
    const size_t count = std::min<size_t>(kBatch, jobs.size() - begin);
    for (size_t j = 0; j < count; ++j) {
      batch.jobs[j] = jobs[begin + j];
      batch.vectors[j] = takes_vectors(batch.jobs[j]);
      const dim3 blocks = blocks_for(batch.jobs[j].rows * batch.jobs[j].width, kThreads * kPerThread);
      batch.first_block[j + 1] = batch.first_block[j] + blocks.x;
    }
    for (size_t j = count; j < kBatch; ++j) batch.first_block[j + 1] = batch.first_block[count];
    const dim3 grid = blocks_for(batch.first_block[count], 1);
    launch({"adam", grid, kThreads, 0, stream}, adam_kernel, batch);
  }
}

}  // namespace splat::cuda

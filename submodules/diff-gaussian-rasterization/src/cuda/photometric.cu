// The photometric loss and its gradient: two separable filters of 11 taps, as in cpu/photometric_kernel.cpp,
// each on a tile with its margin in shared memory. The second kernel filters what the first one wrote.
#include "scalar.h"
#include "splat/ssim.h"
#include "training.h"

namespace splat::cuda {
namespace {

constexpr int kChannels = 3;
constexpr int kTileWidth = 32, kTileHeight = 16, kThreads = 256;
constexpr int kRows = kTileHeight + 2 * kSsimHalf, kColumns = kTileWidth + 2 * kSsimHalf;  // with the margin
constexpr int kPixels = kTileWidth * kTileHeight;
constexpr int kMeans = 4, kDerivatives = 3;  // planes: SsimMeans, Ssim

// What the first kernel writes for the second, per channel and pixel, and for the sum.
struct Maps {
  float* derivatives[kDerivatives];  // [3, H, W] each; null: no gradient is wanted
  float2* sums;                      // [blocks]: of |x - y| and of the similarity
};

template <int Planes>
struct Tile {
  float in[Planes][kRows][kColumns];
  float across[Planes][kRows][kTileWidth];  // filtered along rows
};

struct CompareShared {
  float images[2][kRows][kColumns];
  float across[kMeans][kRows][kTileWidth];
  float2 warps[kThreads / kWarp];
};

// The pixel of this block's tile that is its thread's `i`-th, and where it lies in the image.
struct Pixel {
  int x, y;  // within the tile
  bool inside;
  int64_t at;  // in [3, H, W]
};

__device__ int64_t channel_offset(const PhotometricJob<float>& job) {
  return int64_t(blockIdx.z) * job.height * job.width;
}

__device__ Pixel pixel_of(const PhotometricJob<float>& job, int i) {
  const int x = i % kTileWidth, y = i / kTileWidth;
  const int column = blockIdx.x * kTileWidth + x, row = blockIdx.y * kTileHeight + y;
  const bool inside = column < job.width && row < job.height;
  return {x, y, inside, channel_offset(job) + int64_t(row) * job.width + column};
}

// The tile with its margin, zeros outside of the image.
__device__ void load_tile(const PhotometricJob<float>& job, const float* image,
                          float (&tile)[kRows][kColumns]) {
  const int left = blockIdx.x * kTileWidth - kSsimHalf, top = blockIdx.y * kTileHeight - kSsimHalf;
  for (int i = threadIdx.x; i < kRows * kColumns; i += kThreads) {
    const int x = left + i % kColumns, y = top + i / kColumns;
    const bool inside = x >= 0 && x < job.width && y >= 0 && y < job.height;
    tile[i / kColumns][i % kColumns] = inside ? image[channel_offset(job) + int64_t(y) * job.width + x] : 0.f;
  }
}

__device__ void filter_images(CompareShared& shared) {
  for (int i = threadIdx.x; i < kRows * kTileWidth; i += kThreads) {
    const int row = i / kTileWidth, column = i % kTileWidth;
    float sums[kMeans] = {};
#pragma unroll
    for (int t = 0; t < kSsimTaps; ++t) {
      const float x = shared.images[0][row][column + t], y = shared.images[1][row][column + t];
      const float weight = ssim_weight<float>(t);
      sums[0] += weight * x;
      sums[1] += weight * y;
      sums[2] += weight * (x * x + y * y);
      sums[3] += weight * (x * y);
    }
    for (int p = 0; p < kMeans; ++p) shared.across[p][row][column] = sums[p];
  }
}

__device__ float filter_column(const float (&plane)[kRows][kTileWidth], int row, int column) {
  float sum = 0.f;
#pragma unroll
  for (int t = 0; t < kSsimTaps; ++t) sum += ssim_weight<float>(t) * plane[row + t][column];
  return sum;
}

// The sum over the block, in a fixed order; in thread 0.
__device__ float2 block_sum(float2 value, float2 (&warps)[kThreads / kWarp]) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value.x += __shfl_xor_sync(kFullWarp, value.x, distance);
    value.y += __shfl_xor_sync(kFullWarp, value.y, distance);
  }
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  float2 total = {0.f, 0.f};
  if (threadIdx.x == 0)
    for (const float2& warp : warps) total.x += warp.x, total.y += warp.y;
  return total;
}

// Sums of a tile, and the derivatives of the similarity at its pixels.
__global__ void compare_kernel(PhotometricJob<float> job, Maps maps) {
  CompareShared& shared = block_shared<CompareShared>();
  load_tile(job, job.rendered, shared.images[0]);
  load_tile(job, job.target, shared.images[1]);
  __syncthreads();
  filter_images(shared);
  __syncthreads();
  float2 sums = {0.f, 0.f};
  for (int i = threadIdx.x; i < kPixels; i += kThreads) {
    const Pixel pixel = pixel_of(job, i);
    if (!pixel.inside) continue;
    const int y = pixel.y + kSsimHalf, x = pixel.x + kSsimHalf;
    const SsimMeans<float> means = {
        filter_column(shared.across[0], pixel.y, pixel.x), filter_column(shared.across[1], pixel.y, pixel.x),
        filter_column(shared.across[2], pixel.y, pixel.x), filter_column(shared.across[3], pixel.y, pixel.x)};
    const Ssim<float> at = ssim<float, float>(means);
    sums.x += fabsf(shared.images[0][y][x] - shared.images[1][y][x]);
    sums.y += at.value;
    if (!job.gradient) continue;
    maps.derivatives[0][pixel.at] = at.by_x;
    maps.derivatives[1][pixel.at] = at.twice_by_squares;
    maps.derivatives[2][pixel.at] = at.by_product;
  }
  sums = block_sum(sums, shared.warps);
  const int64_t block = (int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  if (threadIdx.x == 0) maps.sums[block] = sums;
}

using GradientShared = Tile<kDerivatives>;

__global__ void gradient_kernel(PhotometricJob<float> job, Maps maps) {
  GradientShared& shared = block_shared<GradientShared>();
  for (int p = 0; p < kDerivatives; ++p) load_tile(job, maps.derivatives[p], shared.in[p]);
  __syncthreads();
  for (int i = threadIdx.x; i < kDerivatives * kRows * kTileWidth; i += kThreads) {
    const int plane = i / (kRows * kTileWidth), row = i / kTileWidth % kRows, column = i % kTileWidth;
    float sum = 0.f;
#pragma unroll
    for (int t = 0; t < kSsimTaps; ++t) sum += ssim_weight<float>(t) * shared.in[plane][row][column + t];
    shared.across[plane][row][column] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kPixels; i += kThreads) {
    const Pixel pixel = pixel_of(job, i);
    if (!pixel.inside) continue;
    const float x = job.rendered[pixel.at], y = job.target[pixel.at];
    const float similarity = filter_column(shared.across[0], pixel.y, pixel.x) +
                             x * filter_column(shared.across[1], pixel.y, pixel.x) +
                             y * filter_column(shared.across[2], pixel.y, pixel.x);
    const float sign = x > y ? job.difference_weight : x < y ? -job.difference_weight : 0.f;
    job.gradient[pixel.at] = sign + job.similarity_weight * similarity;
  }
}

// One block adds up the sums of all blocks.
__global__ void loss_kernel(PhotometricJob<float> job, const float2* sums, int64_t blocks, float* loss) {
  float2(&warps)[kThreads / kWarp] = block_shared<CompareShared>().warps;
  float2 mine = {0.f, 0.f};
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) mine.x += sums[i].x, mine.y += sums[i].y;
  const float2 total = block_sum(mine, warps);
  const float numbers = float(kChannels) * float(job.width) * float(job.height);
  const float lambda = -job.similarity_weight * numbers;
  if (threadIdx.x == 0) *loss = job.difference_weight * total.x + job.similarity_weight * total.y + lambda;
}

}  // namespace

void photometric(const PhotometricJob<float>& job, float* loss, const Allocate& memory, cudaStream_t stream) {
  const dim3 grid(unsigned((job.width + kTileWidth - 1) / kTileWidth),
                  unsigned((job.height + kTileHeight - 1) / kTileHeight), kChannels);
  const int64_t blocks = int64_t(grid.x) * grid.y * grid.z;
  const int64_t numbers = int64_t(kChannels) * job.width * job.height;
  const Maps maps = allocate(memory, Lifetime::kScratch, [&](Layout& layout) {
    Maps own{};
    own.sums = layout.array<float2>(blocks);
    for (float*& plane : own.derivatives) plane = layout.array<float>(job.gradient ? numbers : 0);
    return own;
  });
  launch({"photometric comparison", grid, kThreads, sizeof(CompareShared), stream}, compare_kernel, job,
         maps);
  if (job.gradient)
    launch({"photometric gradient", grid, kThreads, sizeof(GradientShared), stream}, gradient_kernel, job,
           maps);
  launch({"photometric sum", dim3(1), kThreads, sizeof(CompareShared), stream}, loss_kernel, job,
         static_cast<const float2*>(maps.sums), blocks, loss);
}

}  // namespace splat::cuda

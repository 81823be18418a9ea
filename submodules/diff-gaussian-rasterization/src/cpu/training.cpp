#include "training.h"

#include <algorithm>
#include <cstring>

#include "buffer.h"
#include "team.h"

namespace splat {
namespace {

constexpr int kChannels = 3;
// Size of a tile. The two filters read 10 pixels beyond each of its sides: small tiles repeat much of their
// work, large ones do not fit the cache.
constexpr int kTileRows = 96, kTileColumns = 768;
constexpr int64_t kAdamChunk = int64_t(1) << 15;  // numbers per work item

std::vector<PhotometricTile> tiles_of(int width, int height) {
  const int across = (width + kTileColumns - 1) / kTileColumns, columns = (width + across - 1) / across;
  std::vector<PhotometricTile> tiles;
  for (int channel = 0; channel < kChannels; ++channel)
    for (int row = 0; row < height; row += kTileRows)
      for (int column = 0; column < width; column += columns)
        tiles.push_back(
            {channel, row, std::min(row + kTileRows, height), column, std::min(column + columns, width)});
  return tiles;
}

}  // namespace

template <class T>
PhotometricSums photometric(const PhotometricJob<T>& job, int threads, const TrainingKernels<T>& kernels) {
  const std::vector<PhotometricTile> tiles = tiles_of(job.width, job.height);
  std::vector<PhotometricSums> sums(tiles.size());
  Team team(int(std::min<int64_t>(threads, int64_t(tiles.size()))));
  const int64_t each = kernels.photometric_scratch(std::min(job.width, kTileColumns));
  const Buffer<T> scratch(each * team.size());
  team.each(int64_t(tiles.size()), [&](int64_t tile, int member) {
    sums[tile] = kernels.photometric(job, tiles[tile], scratch.data() + each * member);
  });
  PhotometricSums total{};
  for (const PhotometricSums& part : sums) {
    total.difference += part.difference;
    total.similarity += part.similarity;
  }
  return total;
}

template <class T>
void adam(const std::vector<AdamJob<T>>& jobs, int threads, const TrainingKernels<T>& kernels) {
  struct Chunk {
    const AdamJob<T>* job;
    int64_t first, last;
  };
  std::vector<Chunk> chunks;
  for (const AdamJob<T>& job : jobs) {
    const int64_t rows = std::max<int64_t>(1, kAdamChunk / job.width);
    for (int64_t row = 0; row < job.rows; row += rows)
      chunks.push_back({&job, row, std::min(row + rows, job.rows)});
  }
  Team team(int(std::min<int64_t>(threads, int64_t(chunks.size()))));
  team.each(int64_t(chunks.size()), [&](int64_t item, int) {
    const Chunk& chunk = chunks[item];
    kernels.adam(*chunk.job, chunk.first, chunk.last);
  });
}

template PhotometricSums photometric(const PhotometricJob<float>&, int, const TrainingKernels<float>&);
template PhotometricSums photometric(const PhotometricJob<double>&, int, const TrainingKernels<double>&);
template void adam(const std::vector<AdamJob<float>>&, int, const TrainingKernels<float>&);
template void adam(const std::vector<AdamJob<double>>&, int, const TrainingKernels<double>&);

}  // namespace splat

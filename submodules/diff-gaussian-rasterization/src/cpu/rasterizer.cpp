#include "rasterizer.h"

#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace splat {
namespace {

template <class T>
Raster<T> raster_of(const Camera<T>& camera, int width, int height) {
  return {width,
          height,
          (width + kTile - 1) / kTile,
          (height + kTile - 1) / kTile,
          T(width) / camera.width,
          T(height) / camera.height};
}

int64_t chunks(int64_t gaussians) { return (gaussians + kGaussianChunk - 1) / kGaussianChunk; }

template <class T>
void project_all(const Request<T>& request, State<T>& state, T* depths, int32_t* radii, Team& team) {
  ProjectJob<T> job{};
  job.camera = request.camera;
  job.in = request.in;
  job.rasters = int(state.layers.size());
  for (int r = 0; r < job.rasters; ++r) {
    job.raster[r] = state.layers[r].raster;
    job.splats[r] = state.layers[r].splats.data();
  }
  job.depths = depths;
  job.radii = radii;
  std::vector<int64_t> invalid(chunks(request.in.count), -1);
  team.each(int64_t(invalid.size()), [&](int64_t chunk, int) {
    const int64_t begin = chunk * kGaussianChunk, end = std::min(begin + kGaussianChunk, request.in.count);
    invalid[chunk] = state.kernels->project(job, begin, end);
  });
  for (const int64_t gaussian : invalid)
    if (gaussian >= 0)
      throw std::invalid_argument("expected finite parameters, found NaN or infinity in Gaussian " +
                                  std::to_string(gaussian) + ": remove it or lower the learning rate");
}

// The tiles of a layer with everything that does not depend on the direction of the pass.
template <class T>
Tile<T> tile_of(const Request<T>& request, const typename State<T>::Layer& layer, const Images<T>& images,
                int lanes, int64_t index) {
  Tile<T> tile{};
  const int64_t begin = layer.lists.tile_begin[index];
  tile.splats = layer.splats.data();
  tile.entries = layer.lists.entries.data() + begin;
  tile.hits = layer.lists.hits.data() + begin;
  tile.count = layer.lists.tile_begin[index + 1] - begin;
  tile.processed = layer.lists.processed[index];
  tile.x = int(index % layer.raster.tiles_x) * kTile;
  tile.y = int(index / layer.raster.tiles_x) * kTile;
  tile.width = layer.raster.width;
  tile.height = layer.raster.height;
  tile.color = layer.color;
  std::memcpy(tile.background, request.background, sizeof(tile.background));
  if (layer.features) {
    tile.features_in = request.in.features;
    tile.channels = request.in.channels;
    const int whole = std::max(lanes, kCell);  // vectors, and quads of channels
    tile.padded_channels = (tile.channels + whole - 1) / whole * whole;
    tile.features = images.features;
  }
  tile.rgb = images.rgb;
  tile.depth = images.depth;
  tile.alpha = images.alpha;
  return tile;
}

// Scratch for every member of a team, features included.
template <class T>
class Scratches {
 public:
  Scratches(int members, int channels) : scratches_(new TileScratch<T>[members]) {
    const int64_t padded = (channels + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
    const int64_t tile = kTilePixels * padded, rows = (kBatch + 1) * padded;
    const int64_t each = channels ? 2 * tile + 2 * rows + (kBatch + 1) * kTilePixels : 0;
    features_ = Buffer<T>(each * members);
    std::fill_n(features_.data(), each * members, T(0));
    for (int m = 0; m < members; ++m) {
      T* next = features_.data() + each * m;
      scratches_[m].planes = next;
      scratches_[m].pixels = next += tile;
      scratches_[m].rows = next += tile;
      scratches_[m].d_rows = next += rows;
      scratches_[m].weights = next + rows;
    }
  }
  TileScratch<T>& operator[](int member) { return scratches_[member]; }

 private:
  std::unique_ptr<TileScratch<T>[]> scratches_;
  Buffer<T> features_;
};

// Where the feature slots of each Gaussian begin, [N + 1]. Most Gaussians touch one tile only; that tile
// writes their gradient itself, and they need none.
std::vector<int64_t> shared_slots(const std::vector<int64_t>& slot_begin) {
  std::vector<int64_t> begin(slot_begin.size(), 0);
  for (size_t i = 0; i + 1 < slot_begin.size(); ++i) {
    const int64_t own = slot_begin[i + 1] - slot_begin[i];
    begin[i + 1] = begin[i] + (own > 1 ? own : 0);
  }
  return begin;
}

// Calls body(tile, member) for every tile, handed out in runs of neighbours, which share memory.
template <class Body>
void each_tile(Team& team, int64_t tiles, const Body& body) {
  const int64_t run = tiles >= 64 * team.size() ? 4 : 1;
  team.each((tiles + run - 1) / run, [&](int64_t index, int member) {
    for (int64_t tile = index * run; tile < std::min((index + 1) * run, tiles); ++tile) body(tile, member);
  });
}

int team_size(int threads, int64_t gaussians) {
  return gaussians < kGaussianChunk ? 1 : std::max(1, threads);
}

}  // namespace

template <class T>
State<T> forward(const Request<T>& request, const Images<T>& out, const Kernels<T>& kernels) {
  const Camera<T>& camera = request.camera;
  const int64_t count = request.in.count;
  const bool features = request.in.features != nullptr;
  const bool shared =
      features && request.feature_width == camera.width && request.feature_height == camera.height;
  State<T> state;
  state.kernels = &kernels;
  state.layers.push_back({raster_of(camera, camera.width, camera.height), {}, {}, true, shared});
  if (features && !shared)
    state.layers.push_back(
        {raster_of(camera, request.feature_width, request.feature_height), {}, {}, false, true});
  for (auto& layer : state.layers) layer.splats = Buffer<Splat<T>>(count);
  Team team(team_size(request.threads, count));
  const Buffer<T> depths(count);
  project_all(request, state, depths.data(), out.radii, team);
  const std::vector<uint32_t> order = sort_by_depth(depths.data(), count);
  if (features)
    ask_for_huge_pages(out.features,
                       sizeof(T) * request.in.channels * request.feature_width * request.feature_height);
  Scratches<T> scratches(team.size(), features ? request.in.channels : 0);
  for (auto& layer : state.layers) {
    layer.lists = bin(layer.raster, layer.splats.data(), count, order, request.max_pairs, team);
    const int64_t tiles = int64_t(layer.lists.processed.size());
    each_tile(team, tiles, [&](int64_t index, int member) {
      const Tile<T> tile = tile_of<T>(request, layer, out, kernels.lanes, index);
      layer.lists.processed[index] = kernels.render(tile, scratches[member]);
    });
  }
  return state;
}

template <class T>
void backward(const Request<T>& request, const State<T>& state, const Images<T>& images,
              const ImageGradients<T>& d_images, const GaussianGradients<T>& out) {
  const int64_t count = request.in.count;
  const bool color = d_images.rgb || d_images.depth || d_images.alpha;
  Team team(team_size(request.threads, count));
  Scratches<T> scratches(team.size(), request.in.features ? request.in.channels : 0);
  ProjectBackwardJob<T> job{};
  job.camera = request.camera;
  job.in = request.in;
  job.out = out;
  job.rasters = int(state.layers.size());
  Buffer<T> slots[2], feature_slots;
  std::vector<int64_t> feature_slot_begin;
  job.feature_raster = -1;
  for (int r = 0; r < job.rasters; ++r) {
    const auto& layer = state.layers[r];
    const int64_t pairs = int64_t(layer.lists.entries.size());
    const bool by_features = layer.features && d_images.features;
    const bool moves = by_features && request.features_move_geometry;
    const bool needs_features = by_features && out.features;
    job.raster[r] = layer.raster;
    job.splats[r] = layer.splats.data();
    job.slot_begin[r] = layer.lists.slot_begin.data();
    job.positions[r] = layer.lists.positions.data();
    job.hits[r] = layer.lists.hits.data();
    const bool geometry = (layer.color && color) || moves;
    if (!geometry && !needs_features) continue;
    if (geometry) slots[r] = Buffer<T>(pairs * kSlotSize);
    job.slots[r] = slots[r].data();
    if (needs_features) {
      feature_slot_begin = shared_slots(layer.lists.slot_begin);
      feature_slots = Buffer<T>(feature_slot_begin[count] * request.in.channels);
      job.feature_raster = r;
      job.feature_slots = feature_slots.data();
      job.feature_slot_begin = feature_slot_begin.data();
    }
    each_tile(team, int64_t(layer.lists.processed.size()), [&](int64_t index, int member) {
      Tile<T> tile = tile_of<T>(request, layer, images, state.kernels->lanes, index);
      tile.color = layer.color && (color || moves);
      tile.d_rgb = d_images.rgb;
      tile.d_depth = d_images.depth;
      tile.d_alpha = d_images.alpha;
      tile.d_features = by_features ? d_images.features : nullptr;
      const int64_t first_pair = layer.lists.tile_begin[index];
      if (geometry) tile.slots = slots[r].data() + first_pair * kSlotSize;
      if (needs_features) {
        tile.d_features_in = out.features;
        tile.first_pair = first_pair;
        tile.slot_begin = layer.lists.slot_begin.data();
        tile.positions = layer.lists.positions.data();
        tile.feature_slots = feature_slots.data();
        tile.feature_slot_begin = feature_slot_begin.data();
      }
      tile.features_move_geometry = moves;
      state.kernels->render_backward(tile, scratches[member]);
    });
  }
  std::vector<double> poses(12 * chunks(count), 0.0);
  team.each(chunks(count), [&](int64_t chunk, int) {
    const int64_t begin = chunk * kGaussianChunk, end = std::min(begin + kGaussianChunk, count);
    state.kernels->project_backward(job, begin, end, poses.data() + 12 * chunk);
  });
  if (!out.pose) return;
  double pose[12] = {};
  for (size_t i = 0; i < poses.size(); ++i) pose[i % 12] += poses[i];
  for (int k = 0; k < 12; ++k) out.pose[k] = T(pose[k]);
}

template State<float> forward(const Request<float>&, const Images<float>&, const Kernels<float>&);
template State<double> forward(const Request<double>&, const Images<double>&, const Kernels<double>&);
template void backward(const Request<float>&, const State<float>&, const Images<float>&,
                       const ImageGradients<float>&, const GaussianGradients<float>&);
template void backward(const Request<double>&, const State<double>&, const Images<double>&,
                       const ImageGradients<double>&, const GaussianGradients<double>&);

}  // namespace splat

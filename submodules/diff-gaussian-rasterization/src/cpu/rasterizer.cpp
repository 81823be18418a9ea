#include "rasterizer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "slab_tiles.h"

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
void project_all(const Request<T>& request, State<T>& state, const TileBits* tiles, T* depths, int32_t* radii,
                 Team& team) {
  ProjectJob<T> job{};
  job.camera = request.camera;
  job.in = request.in;
  job.rasters = int(state.layers.size());
  for (int r = 0; r < job.rasters; ++r) {
    job.raster[r] = state.layers[r].raster;
    job.splats[r] = state.layers[r].splats.data();
    job.tiles[r] = tiles[r];
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

// The Gaussians of a slab, for the tiles that are `open` [layers], or for all of them.
template <class T>
Binned bin_all(const Request<T>& request, const State<T>& state, const TileBits* tiles, const T* depths,
               const Slab<T>& slab, bool by_gaussian, const SlabTiles<T>* open, Team& team) {
  std::vector<Splatted<T>> rasters;
  for (const auto& layer : state.layers) {
    const size_t r = rasters.size();
    rasters.push_back({layer.raster, layer.splats.data(), tiles[r], open ? open[r].open().data() : nullptr});
  }
  return bin(rasters, BinRequest<T>{depths, request.in.count, slab, by_gaussian, request.max_intersections},
             *state.kernels, team);
}

// One tile of a layer, with all fields that forward and backward pass have in common.
template <class T>
Tile<T> tile_of(const Request<T>& request, const typename State<T>::Layer& layer, const Images<T>& images,
                int lanes, int64_t index) {
  Tile<T> tile{};
  tile.splats = layer.splats.data();
  if (!layer.lists.tile_begin.empty()) {
    const int64_t begin = layer.lists.tile_begin[index];
    tile.gaussians = layer.lists.gaussians.data() + begin;
    tile.hits = layer.lists.hits.data() + begin;
    tile.count = layer.lists.tile_begin[index + 1] - begin;
    tile.processed = layer.lists.processed[index];
  }
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

// Scratch memory for every thread of a team, features included.
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

// Per-intersection gradients of the features. Most Gaussians touch one tile only: that tile writes into their
// gradient directly, and they need no row here.
template <class T>
struct FeatureGradients {
  std::vector<int64_t> tile_begin;  // [tiles] the first row of each tile
  Buffer<uint32_t> row_of;          // [intersections]
  Buffer<T> gradients;              // [rows, channels]

  FeatureGradients() = default;
  FeatureGradients(const TileLists& lists, int channels, Team& team)
      : tile_begin(lists.processed.size()), row_of(lists.gaussians.size()) {
    team.each(int64_t(tile_begin.size()), [&](int64_t tile, int) {
      const uint16_t* hits = lists.hits.data() + lists.tile_begin[tile];
      tile_begin[tile] =
          std::count_if(hits, hits + lists.processed[tile], [](uint16_t cells) { return cells != 0; });
    });
    int64_t running = 0;
    for (int64_t& tile : tile_begin) running += std::exchange(tile, running);
    gradients = Buffer<T>(running * channels);
  }
};

// Calls body(layer, tile, member) for every tile of every layer. The tiles of a small image come first,
// because each takes long and should not be the last to finish. The tiles of a large image are handed out in
// runs of neighbours, which read the same memory.
template <class T, class Body>
void each_tile(Team& team, const State<T>& state, const Body& body) {
  struct Runs {
    int layer;
    int64_t tiles, length, end;  // `end` counts the runs of the layers before as well
  };
  std::vector<Runs> all;
  for (int layer = int(state.layers.size()) - 1; layer >= 0; --layer) {
    const int64_t tiles = int64_t(state.layers[layer].raster.tiles_x) * state.layers[layer].raster.tiles_y;
    const int64_t length = tiles >= 64 * team.size() ? 4 : 1, before = all.empty() ? 0 : all.back().end;
    all.push_back({layer, tiles, length, before + (tiles + length - 1) / length});
  }
  team.each(all.back().end, [&](int64_t item, int member) {
    const Runs& runs = item < all[0].end ? all[0] : all[1];
    const int64_t run = item < all[0].end ? item : item - all[0].end, first = run * runs.length;
    for (int64_t tile = first; tile < std::min(first + runs.length, runs.tiles); ++tile)
      body(runs.layer, tile, member);
  });
}

// The depths of the Gaussians from `limit` on that touch an open tile, -1 for all others; empty if there are
// none.
template <class T>
Buffer<T> seen_behind(const State<T>& state, const SlabTiles<T>* slabs, const TileBits* tiles,
                      const T* depths, T limit, Team& team) {
  bool any = false;
  for (size_t r = 0; r < state.layers.size(); ++r)
    any = any || std::count(slabs[r].open().begin(), slabs[r].open().end(), 1);
  if (!any) return {};
  std::vector<OpenTiles<T>> open;
  for (size_t r = 0; r < state.layers.size(); ++r)
    open.emplace_back(state.layers[r].raster, tiles[r], slabs[r].open());
  Buffer<T> rest(state.count);
  std::vector<uint8_t> found(chunks(state.count), 0);
  team.each(int64_t(found.size()), [&](int64_t chunk, int) {
    const int64_t begin = chunk * kGaussianChunk, end = std::min(begin + kGaussianChunk, state.count);
    for (int64_t i = begin; i < end; ++i) {
      bool seen = false;
      for (size_t r = 0; depths[i] >= limit && r < open.size(); ++r)
        seen = seen || open[r].touched(state.layers[r].splats.data(), i, state.count);
      rest[i] = seen ? depths[i] : T(-1);
      found[chunk] |= uint8_t(seen);
    }
  });
  if (std::find(found.begin(), found.end(), 1) == found.end()) return {};
  return rest;
}

// Bins and renders the tiles of every layer. A view of many Gaussians goes in two slabs, of which the second
// one is for the tiles that the first one leaves open: what touches none of them is not even sorted.
template <class T>
void render_all(const Request<T>& request, State<T>& state, const Images<T>& out, const TileBits* tiles,
                const T* depths, Scratches<T>& scratches, Team& team) {
  const Kernels<T>& kernels = *state.kernels;
  const T infinity = std::numeric_limits<T>::infinity(), limit = first_slab(depths, request.in.count);
  const bool whole = limit == infinity;
  Binned binned = bin_all<T>(request, state, tiles, depths, {T(0), limit}, whole && request.differentiable,
                             nullptr, team);
  SlabTiles<T> slabs[2];
  for (size_t r = 0; r < state.layers.size(); ++r) {
    const Raster<T>& raster = state.layers[r].raster;
    state.layers[r].lists = std::move(binned.layers[r].lists);
    if (!whole || tiles[r].words)
      slabs[r] = SlabTiles<T>(int64_t(raster.tiles_x) * raster.tiles_y, request.differentiable);
  }
  std::vector<ListScratch> lists(team.size());
  each_tile(team, state, [&](int r, int64_t index, int member) {
    Tile<T> tile = tile_of<T>(request, state.layers[r], out, kernels.lanes, index);
    if (tiles[r].words)
      slabs[r].search(tile, index, tiles[r], binned.order, binned.layers[r].bits, lists[member], kernels,
                      scratches[member]);
    else if (whole)
      state.layers[r].lists.processed[index] = kernels.render(tile, scratches[member]);
    else
      slabs[r].render(tile, index, kernels, scratches[member]);
  });
  const Buffer<T> rest = whole ? Buffer<T>() : seen_behind(state, slabs, tiles, depths, limit, team);
  if (rest.size()) {
    const Binned farther =
        bin_all<T>(request, state, tiles, rest.data(), {limit, infinity}, false, slabs, team);
    append(binned, farther);
    each_tile(team, state, [&](int r, int64_t index, int member) {
      if (!slabs[r].open()[index]) return;
      Tile<T> tile = tile_of<T>(request, state.layers[r], out, kernels.lanes, index);
      if (tiles[r].words)
        slabs[r].search(tile, index, tiles[r], binned.order, binned.layers[r].bits, lists[member], kernels,
                        scratches[member]);
      else
        slabs[r].extend(tile, index, farther.layers[r].lists, lists[member], kernels, scratches[member]);
    });
  }
  for (size_t r = 0; r < state.layers.size(); ++r)
    if (slabs[r].keeps()) state.layers[r].lists = slabs[r].lists();
}

int team_size(int threads, int64_t gaussians) {
  return gaussians < kGaussianChunk ? 1 : std::max(1, threads);
}

// What the backward pass of one layer computes, and the per-intersection gradients that its tiles write.
template <class T>
struct LayerGradients {
  bool features;        // the feature image of this layer has a gradient
  bool moves;           // that gradient reaches the geometry as well
  bool geometry;        // shapes and colours get a gradient through this layer
  bool needs_features;  // the features get a gradient through this layer
  Buffer<T> gradients;
  ByGaussian listed;  // of a layer whose tiles listed their Gaussians themselves
  FeatureGradients<T> feature_gradients;
};

template <class T>
class BackwardPass {
 public:
  BackwardPass(const Request<T>& request, const State<T>& state, const Images<T>& images,
               const ImageGradients<T>& d_images, const GaussianGradients<T>& out, Team& team)
      : request_(request), state_(state), images_(images), d_images_(d_images), out_(out) {
    for (const auto& layer : state.layers) layers_.push_back(prepared(layer, team));
  }

  // Renders every tile backward.
  void render(Team& team) const {
    Scratches<T> scratches(team.size(), request_.in.features ? request_.in.channels : 0);
    each_tile(team, state_, [&](int layer, int64_t index, int member) {
      if (layers_[layer].geometry || layers_[layer].needs_features)
        state_.kernels->render_backward(tile(layer, index), scratches[member]);
    });
  }

  // The second half of the pass: from per-intersection gradients to gradients of the Gaussians.
  ProjectBackwardJob<T> job(bool features_zeroed) const {
    ProjectBackwardJob<T> job{};
    job.camera = request_.camera;
    job.in = request_.in;
    job.out = out_;
    job.rasters = int(layers_.size());
    job.feature_raster = -1;
    job.features_zeroed = features_zeroed;
    for (int r = 0; r < job.rasters; ++r) {
      const auto& layer = state_.layers[r];
      job.raster[r] = layer.raster;
      job.splats[r] = layer.splats.data();
      job.gaussian_begin[r] = by_gaussian(r).begin.data();
      job.positions[r] = by_gaussian(r).positions.data();
      job.hits[r] = layer.lists.hits.data();
      job.gradients[r] = layers_[r].gradients.data();
      if (!layers_[r].needs_features) continue;
      job.feature_raster = r;
      job.feature_gradient_of = layers_[r].feature_gradients.row_of.data();
      job.feature_gradients = layers_[r].feature_gradients.gradients.data();
    }
    return job;
  }

 private:
  using Layer = typename State<T>::Layer;

  const ByGaussian& by_gaussian(int r) const {
    const ByGaussian& own = layers_[r].listed;
    return own.begin.size() ? own : state_.layers[r].lists.by_gaussian;
  }

  bool color() const { return d_images_.rgb || d_images_.depth || d_images_.alpha; }

  LayerGradients<T> prepared(const Layer& layer, Team& team) const {
    LayerGradients<T> own{};
    own.features = layer.features && d_images_.features;
    own.moves = own.features && request_.features_move_geometry;
    own.geometry = (layer.color && color()) || own.moves;
    own.needs_features = own.features && out_.features;
    if ((own.geometry || own.needs_features) && !layer.lists.by_gaussian.begin.size())
      own.listed = list_by_gaussian(layer.lists, request_.in.count);
    if (own.geometry) own.gradients = Buffer<T>(layer.lists.gaussians.size() * kGradientStride);
    if (own.needs_features)
      own.feature_gradients = FeatureGradients<T>(layer.lists, request_.in.channels, team);
    return own;
  }

  Tile<T> tile(int r, int64_t index) const {
    const Layer& layer = state_.layers[r];
    const LayerGradients<T>& own = layers_[r];
    Tile<T> tile = tile_of<T>(request_, layer, images_, state_.kernels->lanes, index);
    tile.color = layer.color && (color() || own.moves);
    tile.d_rgb = d_images_.rgb;
    tile.d_depth = d_images_.depth;
    tile.d_alpha = d_images_.alpha;
    tile.d_features = own.features ? d_images_.features : nullptr;
    tile.features_move_geometry = own.moves;
    const int64_t first_intersection = layer.lists.tile_begin[index];
    if (own.geometry) tile.gradients = own.gradients.data() + first_intersection * kGradientStride;
    if (!own.needs_features) return tile;
    tile.d_features_in = out_.features;
    tile.gaussian_begin = by_gaussian(r).begin.data();
    tile.feature_gradient_of = own.feature_gradients.row_of.data() + first_intersection;
    tile.feature_gradients = own.feature_gradients.gradients.data();
    tile.first_feature_gradient = own.feature_gradients.tile_begin[index];
    return tile;
  }

  const Request<T>& request_;
  const State<T>& state_;
  const Images<T>& images_;
  const ImageGradients<T>& d_images_;
  const GaussianGradients<T>& out_;
  std::vector<LayerGradients<T>> layers_;
};

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
  state.count = count;
  state.differentiable = request.differentiable;
  state.layers.push_back({raster_of(camera, camera.width, camera.height), {}, {}, true, shared});
  if (features && !shared)
    state.layers.push_back(
        {raster_of(camera, request.feature_width, request.feature_height), {}, {}, false, true});
  for (auto& layer : state.layers) layer.splats = Buffer<Splat<T>>(count);
  Team team(team_size(request.threads, count));
  const Buffer<T> depths(count);
  // Only the feature map is small enough for bits; most Gaussians of a small map are hidden behind others.
  TileBits tiles[2];
  if (state.layers.size() == 2)
    tiles[1] = TileBits(state.layers[1].raster.tiles_x, state.layers[1].raster.tiles_y);
  const Buffer<uint32_t> bits(tiles[1].words * count);
  tiles[1].bits = bits.data();
  project_all(request, state, tiles, depths.data(), out.radii, team);
  Scratches<T> scratches(team.size(), features ? request.in.channels : 0);
  if (features)
    ask_for_huge_pages(out.features,
                       sizeof(T) * request.in.channels * request.feature_width * request.feature_height);
  render_all(request, state, out, tiles, depths.data(), scratches, team);
  for (int member = 0; member < team.size(); ++member)
    if (!scratches[member].features_finite)
      throw std::invalid_argument("expected finite features, found NaN or infinity: remove those Gaussians");
  return state;
}

template <class T>
void backward(const Request<T>& request, const State<T>& state, const Images<T>& images,
              const ImageGradients<T>& d_images, const GaussianGradients<T>& out, bool features_zeroed) {
  const int64_t count = request.in.count;
  Team team(team_size(request.threads, count));
  const BackwardPass<T> pass(request, state, images, d_images, out, team);
  pass.render(team);
  const ProjectBackwardJob<T> job = pass.job(features_zeroed);
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
                       const ImageGradients<float>&, const GaussianGradients<float>&, bool);
template void backward(const Request<double>&, const State<double>&, const Images<double>&,
                       const ImageGradients<double>&, const GaussianGradients<double>&, bool);

}  // namespace splat

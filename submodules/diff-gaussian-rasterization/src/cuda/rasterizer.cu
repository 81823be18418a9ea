#include "rasterizer.h"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>

namespace splat::cuda {
namespace {

// Hands out many small arrays of one larger allocation: each call of the caller's allocator costs
// microseconds in which the GPU has nothing to do.
class Arena {
 public:
  explicit Arena(const Allocate& memory) : memory_(memory) {}
  Arena(const Arena&) = delete;

  void* operator()(int64_t bytes) {
    const int64_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (padded > kChunk / 4) return memory_(padded);
    if (padded > left_) {
      next_ = static_cast<char*>(memory_(kChunk));
      left_ = kChunk;
    }
    left_ -= padded;
    char* const at = next_;
    next_ += padded;
    return at;
  }

 private:
  static constexpr int64_t kAlignment = 256, kChunk = 1 << 20;
  const Allocate& memory_;
  char* next_ = nullptr;
  int64_t left_ = 0;
};

TiledRaster raster_of(const Camera<float>& camera, int width, int height, int tile) {
  return {{width, height, (width + tile - 1) / tile, (height + tile - 1) / tile, float(width) / camera.width,
           float(height) / camera.height},
          tile};
}

int64_t tiles_of(const TiledRaster& raster) { return int64_t(raster.raster.tiles_x) * raster.raster.tiles_y; }

// Large tiles share more work among their pixels; small ones where there are too few for the multiprocessors,
// each of which wants two blocks at least.
TiledRaster tiled(const Request& request, int width, int height) {
  const TiledRaster large = raster_of(request.camera, width, height, kLargeTile);
  if (tiles_of(large) >= 2 * int64_t(request.multiprocessors)) return large;
  return raster_of(request.camera, width, height, kSmallTile);
}

State layers_of(const Request& request) {
  const Camera<float>& camera = request.camera;
  const bool features = request.in.features != nullptr;
  const bool shared =
      features && request.feature_width == camera.width && request.feature_height == camera.height;
  State state{};
  state.layers[state.count++] = {tiled(request, camera.width, camera.height), nullptr, {}, true, shared};
  if (features && !shared)
    state.layers[state.count++] = {
        tiled(request, request.feature_width, request.feature_height), nullptr, {}, false, true};
  return state;
}

ProjectJob project_job(const Request& request, const State& state) {
  ProjectJob job{};
  job.camera = request.camera;
  job.pose = request.pose;
  job.in = request.in;
  job.rasters = state.count;
  for (int r = 0; r < state.count; ++r) {
    job.raster[r] = state.layers[r].raster;
    job.splats[r] = state.layers[r].splats;
  }
  return job;
}

// The same errors as the CPU's, by Python and by its schedule.
void check_counts(const Counts& counts, const Request& request, int layers) {
  if (counts.bad_pose) throw std::invalid_argument("expected a finite cam_from_world, found NaN or infinity");
  if (counts.bad_features)
    throw std::invalid_argument("expected finite features, found NaN or infinity: remove those Gaussians");
  if (counts.invalid != UINT64_MAX)
    throw std::invalid_argument("expected finite parameters, found NaN or infinity in Gaussian " +
                                std::to_string(counts.invalid) + ": remove it or lower the learning rate");
  for (int r = 0; r < layers; ++r)
    if (counts.intersections[r] > request.max_intersections)
      throw std::length_error(
          "the Gaussians touch " + std::to_string(counts.intersections[r]) +
          " tiles in all, more than max_intersections = " + std::to_string(request.max_intersections) +
          ": render fewer or smaller Gaussians or a smaller image, or raise the limit");
}

RenderJob render_job(const Request& request, const State::Layer& layer, const Images<float>& images) {
  RenderJob job{};
  job.raster = layer.raster;
  job.lists = layer.lists;
  job.splats = layer.splats;
  job.color = layer.color;
  std::copy_n(request.background, 3, job.background);
  if (layer.features) {
    job.features = request.in.features;
    job.channels = request.in.channels;
  }
  job.full_precision = request.full_precision;
  job.multiprocessors = request.multiprocessors;
  job.images = images;
  return job;
}

// A gradient of this kind reaches Gaussians by their shapes and colours, not by their features alone.
bool wants_shapes(const GaussianGradients<float>& out) {
  return out.means || out.quaternions || out.scales || out.covariances || out.opacities || out.sh ||
         out.colors || out.offsets || out.pose;
}

}  // namespace

State forward(const Request& request, const Images<float>& out, const Allocate& memory, cudaStream_t stream) {
  Arena small(memory);
  const Allocate arena = std::ref(small);
  const int64_t count = request.in.count;
  State state = layers_of(request);
  for (int r = 0; r < state.count; ++r) state.layers[r].splats = allocate<Splat<float>>(arena, count);
  ProjectJob job = project_job(request, state);
  for (int r = 0; r < state.count; ++r) job.tiles[r] = allocate<int32_t>(arena, count);
  job.depths = allocate<float>(arena, count);
  job.visible = allocate<uint8_t>(arena, count);
  job.radii = out.radii;
  job.counts = allocate<Counts>(arena, 1);
  project(job, stream);
  // Needs no counts: the GPU works on it while the host reads them back.
  uint32_t* const selected = allocate<uint32_t>(arena, count);
  int64_t* const selected_count = allocate<int64_t>(arena, 1);
  if (count > 0) select_flagged(job.visible, selected, selected_count, count, arena, stream);
  Counts counts{};
  read_back(&counts, job.counts, sizeof(counts), stream);
  if (request.found) *request.found = counts;
  check_counts(counts, request, state.count);
  state.visible = counts.visible;
  state.order = sort_by_depth(job, counts.visible, selected, arena, stream);
  for (int r = 0; r < state.count; ++r) {
    State::Layer& layer = state.layers[r];
    layer.lists = bin(layer.raster, layer.splats, job.tiles[r], state.order, counts.visible,
                      counts.intersections[r], arena, stream);
    render(render_job(request, layer, out), stream);
  }
  return state;
}

void backward(const Request& request, const State& state, const Images<float>& images,
              const ImageGradients<float>& d_images, const GaussianGradients<float>& out,
              const Allocate& memory, cudaStream_t stream) {
  if (state.visible == 0) return;
  Arena small(memory);
  const Allocate arena = std::ref(small);
  const bool color = d_images.rgb || d_images.depth || d_images.alpha;
  ProjectBackwardJob job{};
  job.forward = project_job(request, state);
  job.order = state.order;
  job.visible = state.visible;
  job.feature_raster = -1;
  job.out = out;
  bool flows = false;
  for (int r = 0; r < state.count; ++r) {
    const State::Layer& layer = state.layers[r];
    const bool by_features = layer.features && d_images.features;
    const bool to_features = by_features && out.features;
    RenderBackwardJob adjoint{};
    adjoint.forward = render_job(request, layer, images);
    adjoint.color = layer.color && color;
    adjoint.features_move_geometry = by_features && request.features_move_geometry;
    adjoint.d = d_images;
    const bool to_shapes = wants_shapes(out) && (adjoint.color || adjoint.features_move_geometry);
    job.gaussian_begin[r] = layer.lists.gaussian_begin;
    if (layer.lists.intersections == 0 || !(to_shapes || to_features)) continue;
    if (to_shapes) adjoint.gradients = allocate<float>(arena, layer.lists.intersections * kGradientStride);
    if (to_features) {
      adjoint.feature_gradients = allocate<float>(arena, layer.lists.intersections * request.in.channels);
      adjoint.written = allocate<uint8_t>(arena, layer.lists.intersections);
      job.feature_raster = r;
      job.feature_gradients = adjoint.feature_gradients;
      job.written = adjoint.written;
    }
    job.gradients[r] = adjoint.gradients;
    render_backward(adjoint, stream);
    flows = true;
  }
  if (flows) project_backward(job, arena, stream);
}

}  // namespace splat::cuda

#include "rasterizer.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace splat::cuda {
namespace {

TiledRaster raster_of(const Camera<float>& camera, int width, int height, int tile) {
  return {{width, height, (width + tile - 1) / tile, (height + tile - 1) / tile, float(width) / camera.width,
           float(height) / camera.height},
          tile};
}

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

// What projection writes beside the splats.
struct ProjectScratch {
  ProjectJob job;
  uint32_t* selected;
  int64_t* selected_count;
  Temporary temporary;
};

ProjectScratch place_project_scratch(Layout& layout, const Request& request, const State& state,
                                     int64_t bytes) {
  const int64_t count = request.in.count;
  ProjectScratch own = {project_job(request, state),
                        layout.array<uint32_t>(count),
                        layout.array<int64_t>(1),
                        {layout.array<unsigned char>(bytes), bytes}};
  for (int r = 0; r < state.count; ++r) own.job.tiles[r] = layout.array<int32_t>(count);
  own.job.depths = layout.array<float>(count);
  own.job.visible = layout.array<uint8_t>(count);
  own.job.counts = request.counts ? request.counts : layout.array<Counts>(1);
  return own;
}

// The host waits here for the counts.
Counts read_counts(const Request& request, const ProjectScratch& scratch, cudaStream_t stream) {
  // Needs no counts: the GPU works on it while the host reads them back.
  select_flagged(scratch.job.visible, scratch.selected, scratch.selected_count, request.in.count,
                 scratch.temporary, stream);
  Counts counts{};
  read_back(&counts, scratch.job.counts, sizeof(counts), stream);
  check_counts(counts, request.max_intersections, "max_intersections");
  return counts;
}

// As much as the caller gave room for; the host does not know what there is.
Counts capacity_counts(const Request& request) {
  Counts counts{};
  counts.visible = request.in.count;
  std::fill_n(counts.intersections, 2, request.max_intersections);
  return counts;
}

// What flows back through the layers, and the memory that it takes.
struct BackwardPlan {
  RenderBackwardJob layers[2];
  bool to_shapes[2], to_features[2];
  double* pose_partials;
};

BackwardPlan plan_of(const Request& request, const State& state, const Images<float>& images,
                     const ImageGradients<float>& d_images, const GaussianGradients<float>& out) {
  const bool color = d_images.rgb || d_images.depth || d_images.alpha;
  BackwardPlan plan{};
  for (int r = 0; r < state.count; ++r) {
    const State::Layer& layer = state.layers[r];
    const bool by_features = layer.features && d_images.features, seen = layer.lists.intersections > 0;
    RenderBackwardJob& job = plan.layers[r];
    job.forward = render_job(request, layer, images);
    job.color = layer.color && color;
    job.features_move_geometry = by_features && request.features_move_geometry;
    job.d = d_images;
    plan.to_shapes[r] = seen && wants_shapes(out) && (job.color || job.features_move_geometry);
    plan.to_features[r] = seen && by_features && out.features;
  }
  return plan;
}

BackwardPlan place(Layout& layout, BackwardPlan plan, const Request& request, const State& state,
                   const GaussianGradients<float>& out) {
  for (int r = 0; r < state.count; ++r) {
    RenderBackwardJob& job = plan.layers[r];
    const int64_t intersections = state.layers[r].lists.intersections;
    if (plan.to_shapes[r]) job.gradients = layout.array<float>(intersections * kGradientStride);
    if (!plan.to_features[r]) continue;
    const int width = feature_chunk(job.forward, request.feature_bytes), stride = (width + 3) / 4 * 4;
    job.rows = {layout.array<float>(intersections * stride), 0, width, stride,
                layout.array<uint8_t>(intersections)};
  }
  if (out.pose) plan.pose_partials = layout.array<double>(pose_partials(state.visible));
  return plan;
}

// Some channels after the other: the rows of all would take 4 bytes per intersection and channel.
void backward_features(RenderBackwardJob job, const State& state, const TileLists& lists,
                       const GaussianGradients<float>& out, cudaStream_t stream) {
  const int channels = job.forward.channels, width = job.rows.channels;
  clear(job.rows.written, size_t(lists.intersections), stream);
  for (int first = 0; first < channels; first += width) {
    job.rows.first_channel = first;
    job.rows.channels = std::min(width, channels - first);
    render_backward_features(job, stream);
    sum_features({state.order, state.visible, lists.gaussian_begin, job.rows, out.features, channels},
                 stream);
  }
}

}  // namespace

// The same errors as the CPU's, by Python and by its schedule.
void check_counts(const Counts& counts, int64_t limit, const char* name) {
  if (counts.bad_pose)
    throw std::invalid_argument(
        "expected a finite cam_from_world, found NaN or infinity: correct the pose, or lower its step");
  if (counts.bad_features)
    throw std::invalid_argument("expected finite features, found NaN or infinity: remove those Gaussians");
  if (counts.invalid != UINT64_MAX)
    throw std::invalid_argument("expected finite parameters, found NaN or infinity in Gaussian " +
                                std::to_string(counts.invalid) + ": remove it or lower the learning rate");
  for (const int64_t intersections : counts.intersections)
    if (intersections > limit)
      throw std::length_error("the Gaussians touch " + std::to_string(intersections) +
                              " tiles in all, more than " + name + " = " + std::to_string(limit) +
                              ": render fewer or smaller Gaussians or a smaller image, or raise the limit");
}

void forward(const Request& request, const Images<float>& out, const Allocate& memory, cudaStream_t stream,
             State& state) {
  const int64_t count = request.in.count;
  state = layers_of(request);
  allocate(memory, Lifetime::kState, [&](Layout& layout) {
    for (int r = 0; r < state.count; ++r) state.layers[r].splats = layout.array<Splat<float>>(count);
    return 0;
  });
  const int64_t select = request.counts ? 0 : select_bytes(count);
  ProjectScratch projected = allocate(memory, Lifetime::kScratch, [&](Layout& layout) {
    return place_project_scratch(layout, request, state, select);
  });
  projected.job.radii = out.radii;
  project(projected.job, stream);
  const Counts counts = request.counts ? capacity_counts(request) : read_counts(request, projected, stream);
  state.visible = counts.visible;
  int64_t most_intersections = 0, most_tiles = 0;
  allocate(memory, Lifetime::kState, [&](Layout& layout) {
    state.order = layout.array<uint32_t>(counts.visible);
    for (int r = 0; r < state.count; ++r) {
      State::Layer& layer = state.layers[r];
      const int64_t tiles = tiles_of(layer.raster);
      layer.lists = place_lists(layout, counts.visible, counts.intersections[r], tiles);
      most_intersections = std::max(most_intersections, counts.intersections[r]);
      most_tiles = std::max(most_tiles, tiles);
    }
    return 0;
  });
  const int64_t bytes = bin_bytes(counts.visible, most_intersections, most_tiles);
  const BinScratch scratch = allocate(memory, Lifetime::kScratch, [&](Layout& layout) {
    return place_bin_scratch(layout, counts.visible, most_intersections, bytes);
  });
  sort_by_depth(projected.job, {projected.selected, counts.visible, request.counts != nullptr}, state.order,
                scratch, stream);
  for (int r = 0; r < state.count; ++r) {
    const State::Layer& layer = state.layers[r];
    bin({layer.raster, layer.splats, projected.job.tiles[r], state.order, counts.visible, request.counts},
        layer.lists, scratch, stream);
    render(render_job(request, layer, out), stream);
  }
}

void backward(const Request& request, const State& state, const Images<float>& images,
              const ImageGradients<float>& d_images, const GaussianGradients<float>& out,
              const Allocate& memory, cudaStream_t stream) {
  if (state.visible == 0) return;
  const BackwardPlan plan = allocate(memory, Lifetime::kScratch, [&](Layout& layout) {
    return place(layout, plan_of(request, state, images, d_images, out), request, state, out);
  });
  ProjectBackwardJob job{};
  job.forward = project_job(request, state);
  job.order = state.order;
  job.visible = state.visible;
  job.pose_partials = plan.pose_partials;
  job.out = out;
  for (int r = 0; r < state.count; ++r) {
    const TileLists& lists = state.layers[r].lists;
    job.gaussian_begin[r] = lists.gaussian_begin;
    job.gradients[r] = plan.layers[r].gradients;
    if (plan.to_shapes[r]) render_backward_moments(plan.layers[r], stream);
    if (plan.to_features[r]) backward_features(plan.layers[r], state, lists, out, stream);
  }
  if (job.gradients[0] || job.gradients[1]) project_backward(job, stream);
}

}  // namespace splat::cuda

// The Python module. Arrays arrive in dicts by name; shapes, types and devices have been checked in Python,
// and their sizes are checked here once more.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <string>

#include "alignment_bindings.h"
#include "argument_error.h"
#include "cpu/rasterizer.h"
#include "interface.h"
#include "matching_bindings.h"
#include "settings.h"
#include "training_bindings.h"

namespace nb = nanobind;

namespace {

using splat::argument_error;
using splat::value;

template <class T>
T* pointer(const nb::dict& arrays, const char* name, int64_t size) {
  if (!arrays.contains(name)) return nullptr;
  nb::handle value = arrays[name];
  if (value.is_none()) return nullptr;
  const auto array = nb::cast<nb::ndarray<T, nb::c_contig, nb::device::cpu>>(
      value, false);  // a converted copy would not live
  if (int64_t(array.size()) != size)
    throw argument_error(std::to_string(size) + " numbers of " + name, std::to_string(array.size()),
                         "give it the size that the settings state");
  // The dict keeps the tensor alive for the whole call; an empty one may have no address.
  return array.data();
}

void require(bool given, const char* names) {
  if (!given) throw argument_error(names, "none or only some of them", "add the missing arrays");
}

// A size in the settings that is no size would overflow the products of sizes.
int64_t bounded(const nb::dict& settings, const char* name, int64_t least, int64_t most) {
  const int64_t number = value<int64_t>(settings, name);
  if (number < least || number > most)
    throw argument_error(std::string(name) + " from " + std::to_string(least) + " to " + std::to_string(most),
                         std::to_string(number), "correct the settings");
  return number;
}

// Sizes of all arrays.
struct Sizes {
  int64_t count, bases, channels, pixels, cells;
  explicit Sizes(const nb::dict& s)
      : count(bounded(s, "count", 0, kMostGaussians)),
        bases(bounded(s, "sh_bases", 0, 1 << 10)),
        channels(bounded(s, "channels", 0, 1 << 20)),
        pixels(bounded(s, "width", 1, kMostPixels) * bounded(s, "height", 1, kMostPixels)),
        cells(bounded(s, "feature_width", 1, kMostPixels) * bounded(s, "feature_height", 1, kMostPixels)) {
    bounded(s, "sh_degree", 0, 3);
    if (pixels > kMostPixels || cells > kMostPixels)
      throw argument_error(
          "at most " + std::to_string(kMostPixels) + " pixels",
          std::to_string(pixels) + " of the image and " + std::to_string(cells) + " of features",
          "render a smaller image");
  }

 private:
  static constexpr int64_t kMostGaussians = (int64_t(1) << 31) - 1, kMostPixels = 1 << 28;
};

std::string sizes_text(int64_t gaussians, int64_t pixels, int64_t cells) {
  return std::to_string(gaussians) + " Gaussians, " + std::to_string(pixels) + " pixels and " +
         std::to_string(cells) + " of features";
}

template <class T>
splat::Request<T> request_from(const nb::dict& settings, const nb::dict& arrays) {
  splat::Request<T> r{};
  r.camera = splat::camera_from<T>(settings);
  const Sizes n(settings);
  const T* pose = pointer<const T>(arrays, "cam_from_world", 16);
  require(pose, "cam_from_world");
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) r.camera.rotation[3 * i + j] = pose[4 * i + j];
    r.camera.translation[i] = pose[4 * i + 3];
  }
  r.in = {n.count,
          pointer<const T>(arrays, "means", 3 * n.count),
          pointer<const T>(arrays, "quaternions", 4 * n.count),
          pointer<const T>(arrays, "scales", 3 * n.count),
          pointer<const T>(arrays, "covariances", 6 * n.count),
          pointer<const T>(arrays, "opacities", n.count),
          pointer<const T>(arrays, "sh", 3 * n.bases * n.count),
          pointer<const T>(arrays, "colors", 3 * n.count),
          pointer<const T>(arrays, "features", n.channels * n.count),
          pointer<const T>(arrays, "screen_offsets", 2 * n.count),
          int(n.bases),
          value<int>(settings, "sh_degree"),
          int(n.channels)};
  require(!n.count || (r.in.means && r.in.opacities && (r.in.sh || r.in.colors) &&
                       ((r.in.quaternions && r.in.scales) || r.in.covariances)),
          "means, opacities, shapes and colours");
  r.feature_width = value<int>(settings, "feature_width");
  r.feature_height = value<int>(settings, "feature_height");
  splat::set_background(r.background, settings);
  r.features_move_geometry = value<bool>(settings, "features_move_geometry");
  r.differentiable = value<bool>(settings, "differentiable");
  r.threads = value<int>(settings, "threads");
  r.max_intersections = value<int64_t>(settings, "max_intersections");
  return r;
}

template <class T>
splat::Images<T> images_from(const Sizes& n, const nb::dict& arrays) {
  const splat::Images<T> images = {
      pointer<T>(arrays, "rgb", 3 * n.pixels), pointer<T>(arrays, "depth", n.pixels),
      pointer<T>(arrays, "alpha", n.pixels), pointer<T>(arrays, "features", n.channels * n.cells),
      pointer<int32_t>(arrays, "radii", n.count)};
  require(images.rgb && images.depth && images.alpha, "images");
  return images;
}

template <class T>
splat::State<T> forward(const nb::dict& settings, const nb::dict& inputs, const nb::dict& outputs) {
  const splat::Request<T> request = request_from<T>(settings, inputs);
  const splat::Images<T> images = images_from<T>(Sizes(settings), outputs);
  require((images.radii || !request.in.count) && (images.features || !request.in.features),
          "radii and features");
  // Reads the environment, which Python code may change as soon as the GIL is released.
  const splat::Kernels<T>& kernels = splat::kernels<T>();
  nb::gil_scoped_release release;
  return splat::forward(request, images, kernels);
}

template <class T>
void backward(const splat::State<T>& state, const nb::dict& settings, const nb::dict& inputs,
              const nb::dict& outputs, const nb::dict& d_outputs, const nb::dict& d_inputs,
              bool features_zeroed) {
  const splat::Request<T> request = request_from<T>(settings, inputs);
  const Sizes n(settings);
  if (!state.differentiable)
    throw argument_error("the state of a differentiable forward pass", "one that is not",
                         "render with `differentiable` set");
  const splat::Raster<T>& first = state.layers.front().raster;
  const splat::Raster<T>& last = state.layers.back().raster;
  if (state.count != n.count || int64_t(first.width) * first.height != n.pixels ||
      (request.in.features && int64_t(last.width) * last.height != n.cells))
    throw argument_error(sizes_text(state.count, int64_t(first.width) * first.height,
                                    request.in.features ? int64_t(last.width) * last.height : n.cells),
                         sizes_text(n.count, n.pixels, n.cells), "pass the settings of the forward pass");
  const splat::Images<T> images = images_from<T>(n, outputs);
  const splat::ImageGradients<T> d_images = {pointer<const T>(d_outputs, "rgb", 3 * n.pixels),
                                             pointer<const T>(d_outputs, "depth", n.pixels),
                                             pointer<const T>(d_outputs, "alpha", n.pixels),
                                             pointer<const T>(d_outputs, "features", n.channels * n.cells)};
  const splat::GaussianGradients<T> gradients = {pointer<T>(d_inputs, "means", 3 * n.count),
                                                 pointer<T>(d_inputs, "quaternions", 4 * n.count),
                                                 pointer<T>(d_inputs, "scales", 3 * n.count),
                                                 pointer<T>(d_inputs, "covariances", 6 * n.count),
                                                 pointer<T>(d_inputs, "opacities", n.count),
                                                 pointer<T>(d_inputs, "sh", 3 * n.bases * n.count),
                                                 pointer<T>(d_inputs, "colors", 3 * n.count),
                                                 pointer<T>(d_inputs, "features", n.channels * n.count),
                                                 pointer<T>(d_inputs, "screen_offsets", 2 * n.count),
                                                 pointer<T>(d_inputs, "cam_from_world", 12)};
  nb::gil_scoped_release release;
  splat::backward(request, state, images, d_images, gradients, features_zeroed);
}

template <class T>
void bind(nb::module_& m, const char* state_name, const char* forward_name) {
  nb::class_<splat::State<T>>(m, state_name, "What a forward pass keeps for its backward pass.");
  m.def(forward_name, &forward<T>, nb::arg("settings"), nb::arg("inputs"), nb::arg("outputs"),
        "Fills `outputs` (rgb, depth, alpha, features, radii) and returns the state for `backward`.");
  m.def("backward", &backward<T>, nb::arg("state"), nb::arg("settings"), nb::arg("inputs"),
        nb::arg("outputs"), nb::arg("d_outputs"), nb::arg("d_inputs"), nb::arg("features_zeroed"),
        "Fills `d_inputs`, zero on entry; that of features may be uninitialised unless `features_zeroed`.");
}

}  // namespace

NB_MODULE(_core, m) {
  // A graph that is alive when the interpreter ends keeps its state: that is no leak.
  nb::set_leak_warnings(false);
  m.doc() = "Rasterization of 3D Gaussians on the CPU; see the Python package around it.";
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const std::length_error& e) {
      PyErr_SetString(PyExc_MemoryError, e.what());
    }
  });
  m.attr("INTERFACE") = splat::kInterface;
  bind<float>(m, "StateFloat32", "forward_float32");
  bind<double>(m, "StateFloat64", "forward_float64");
  splat::bind_training(m);
  splat::bind_alignment(m);
  splat::bind_matching(m);
  m.def("isa", &splat::isa_name, "The instruction set in use: portable, avx2 or avx512.");
}

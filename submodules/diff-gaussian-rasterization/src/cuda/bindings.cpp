// The Python module of the CUDA half. With SPLAT_SHIM the tests build the same module for the CPU.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "argument_error.h"
#include "interface.h"
#include "python.h"
#include "rasterizer.h"
#include "settings.h"
#include "training_bindings.h"

#if defined(SPLAT_SHIM)
#include "shim_bindings.h"
#endif

namespace nb = nanobind;

namespace splat::cuda {
namespace {

Gaussians<float> gaussians_from(const nb::dict& settings, const nb::dict& arrays) {
  return {value<int64_t>(settings, "count"),
          address<const float>(arrays, "means"),
          address<const float>(arrays, "quaternions"),
          address<const float>(arrays, "scales"),
          address<const float>(arrays, "covariances"),
          address<const float>(arrays, "opacities"),
          address<const float>(arrays, "sh"),
          address<const float>(arrays, "colors"),
          address<const float>(arrays, "features"),
          address<const float>(arrays, "screen_offsets"),
          value<int>(settings, "sh_bases"),
          value<int>(settings, "sh_degree"),
          value<int>(settings, "channels")};
}

Request request_from(const nb::dict& settings, const nb::dict& arrays) {
  Request request{};
  request.camera = camera_from<float>(settings);
  request.pose = address<const float>(arrays, "cam_from_world");
  request.in = gaussians_from(settings, arrays);
  request.feature_width = value<int>(settings, "feature_width");
  request.feature_height = value<int>(settings, "feature_height");
  set_background(request.background, settings);
  request.features_move_geometry = value<bool>(settings, "features_move_geometry");
  request.full_precision = value<bool>(settings, "full_precision");
  request.multiprocessors = value<int>(settings, "multiprocessors");
  request.feature_bytes = value<int64_t>(settings, "feature_bytes");
  request.max_intersections = value<int64_t>(settings, "max_intersections");
  return request;
}

Images<float> images_from(const nb::dict& arrays) {
  return {address<float>(arrays, "rgb"), address<float>(arrays, "depth"), address<float>(arrays, "alpha"),
          address<float>(arrays, "features"), address<int32_t>(arrays, "radii")};
}

// Adds to an exception of the caller's allocator what the memory was for.
void add_note(nb::python_error& error, const Request& request, const State& state) {
  std::string note = "in rasterizing " + std::to_string(request.in.count) + " Gaussians";
  for (int r = 0; r < state.count; ++r)
    note += (r ? " and " : " with ") + std::to_string(state.layers[r].lists.intersections) +
            " tile intersections";
  error.value().attr("add_note")(note);
}

State forward_from(const nb::dict& settings, const nb::dict& inputs, const nb::dict& outputs,
                   const nb::callable& callback, uintptr_t stream) {
  Request request = request_from(settings, inputs);
  request.counts = address<Counts>(outputs, "counts");
  const Images<float> images = images_from(outputs);
  State state{};
  try {
    nb::gil_scoped_release release;
    forward(request, images, allocate_by(callback), stream_from(stream), state);
  } catch (nb::python_error& error) {
    add_note(error, request, state);
    throw;
  }
  return state;
}

void backward_from(const State& state, const nb::dict& settings, const nb::dict& inputs,
                   const nb::dict& outputs, const nb::dict& d_outputs, const nb::dict& d_inputs,
                   const nb::callable& callback, uintptr_t stream) {
  const Request request = request_from(settings, inputs);
  const Images<float> images = images_from(outputs);
  const ImageGradients<float> d_images = {
      address<const float>(d_outputs, "rgb"), address<const float>(d_outputs, "depth"),
      address<const float>(d_outputs, "alpha"), address<const float>(d_outputs, "features")};
  const GaussianGradients<float> gradients = {
      address<float>(d_inputs, "means"),          address<float>(d_inputs, "quaternions"),
      address<float>(d_inputs, "scales"),         address<float>(d_inputs, "covariances"),
      address<float>(d_inputs, "opacities"),      address<float>(d_inputs, "sh"),
      address<float>(d_inputs, "colors"),         address<float>(d_inputs, "features"),
      address<float>(d_inputs, "screen_offsets"), address<float>(d_inputs, "cam_from_world")};
  try {
    nb::gil_scoped_release release;
    backward(request, state, images, d_images, gradients, allocate_by(callback), stream_from(stream));
  } catch (nb::python_error& error) {
    add_note(error, request, state);
    throw;
  }
}

// Of a pass with a capacity; `numbers` are what it left in outputs["counts"].
void check_capacity(const std::vector<int64_t>& numbers, int64_t capacity) {
  Counts counts;
  if (numbers.size() * sizeof(int64_t) != sizeof(counts))
    throw argument_error("5 counts", std::to_string(numbers.size()),
                         "pass outputs[\"counts\"] of the forward pass as it is");
  std::copy_n(reinterpret_cast<const char*>(numbers.data()), sizeof(counts),
              reinterpret_cast<char*>(&counts));
  check_counts(counts, capacity, "intersection_capacity");
}

}  // namespace
}  // namespace splat::cuda

#if !defined(SPLAT_MODULE)
#define SPLAT_MODULE _cuda
#endif

NB_MODULE(SPLAT_MODULE, m) {
  using namespace splat::cuda;
  // A graph that is alive when the interpreter ends keeps its state: that is no leak.
  nb::set_leak_warnings(false);
  m.doc() = "Rasterization of 3D Gaussians on a GPU; see the Python package around it.";
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const std::length_error& e) {
      PyErr_SetString(PyExc_MemoryError, e.what());
    }
  });
  nb::class_<State>(m, "State", "What a forward pass leaves for its backward pass.")
      .def_prop_ro("tiles", [](const State& state) {
        std::vector<int> tiles;
        for (int r = 0; r < state.count; ++r) tiles.push_back(state.layers[r].raster.tile);
        return tiles;
      });
  m.def(
      "forward", &forward_from, nb::arg("settings"), nb::arg("inputs"), nb::arg("outputs"),
      nb::arg("allocate"), nb::arg("stream"),
      "Fills `outputs` (rgb, depth, alpha, features, radii) and returns the state for `backward`. Arrays are "
      "addresses; allocate(bytes, kept) returns one, that of memory to keep as long as the state if `kept`. "
      "With outputs[\"counts\"], five 64-bit integers, there is room for max_intersections in each raster "
      "and "
      "the host waits for nothing.");
  m.def(
      "check_capacity", &check_capacity, nb::arg("counts"), nb::arg("capacity"),
      "Raises where a pass with counts was refused: ValueError for numbers that are not finite, MemoryError "
      "for more intersections than its capacity.");
  m.def("backward", &backward_from, nb::arg("state"), nb::arg("settings"), nb::arg("inputs"),
        nb::arg("outputs"), nb::arg("d_outputs"), nb::arg("d_inputs"), nb::arg("allocate"), nb::arg("stream"),
        "Fills `d_inputs`, which must be zero on entry.");
  m.attr("INTERFACE") = splat::kInterface;
  bind_training(m);
#if defined(SPLAT_SHIM)
  shim::bind(m);
#endif
}

// The Python module. Arrays arrive in dicts by name; shapes, types and devices have been checked in Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "alignment_bindings.h"
#include "cpu/rasterizer.h"
#include "settings.h"
#include "training_bindings.h"

namespace nb = nanobind;

namespace {

using splat::value;

template <class T>
T* pointer(const nb::dict& arrays, const char* name) {
  if (!arrays.contains(name)) return nullptr;
  nb::handle value = arrays[name];
  if (value.is_none()) return nullptr;
  // The dict keeps the tensor alive for the whole call; an empty one may have no address.
  return nb::cast<nb::ndarray<T, nb::c_contig, nb::device::cpu>>(value).data();
}

template <class T>
splat::Request<T> request_from(const nb::dict& settings, const nb::dict& arrays) {
  splat::Request<T> r{};
  r.camera = splat::camera_from<T>(settings);
  const T* pose = pointer<const T>(arrays, "cam_from_world");
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) r.camera.rotation[3 * i + j] = pose[4 * i + j];
    r.camera.translation[i] = pose[4 * i + 3];
  }
  r.in = {value<int64_t>(settings, "count"),       pointer<const T>(arrays, "means"),
          pointer<const T>(arrays, "quaternions"), pointer<const T>(arrays, "scales"),
          pointer<const T>(arrays, "covariances"), pointer<const T>(arrays, "opacities"),
          pointer<const T>(arrays, "sh"),          pointer<const T>(arrays, "colors"),
          pointer<const T>(arrays, "features"),    pointer<const T>(arrays, "screen_offsets"),
          value<int>(settings, "sh_bases"),        value<int>(settings, "sh_degree"),
          value<int>(settings, "channels")};
  r.feature_width = value<int>(settings, "feature_width");
  r.feature_height = value<int>(settings, "feature_height");
  splat::set_background(r.background, settings);
  r.features_move_geometry = value<bool>(settings, "features_move_geometry");
  r.threads = value<int>(settings, "threads");
  r.max_intersections = value<int64_t>(settings, "max_intersections");
  return r;
}

template <class T>
splat::Images<T> images_from(const nb::dict& arrays) {
  return {pointer<T>(arrays, "rgb"), pointer<T>(arrays, "depth"), pointer<T>(arrays, "alpha"),
          pointer<T>(arrays, "features"), pointer<int32_t>(arrays, "radii")};
}

template <class T>
splat::State<T> forward(const nb::dict& settings, const nb::dict& inputs, const nb::dict& outputs) {
  const splat::Request<T> request = request_from<T>(settings, inputs);
  const splat::Images<T> images = images_from<T>(outputs);
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
  const splat::Images<T> images = images_from<T>(outputs);
  const splat::ImageGradients<T> d_images = {
      pointer<const T>(d_outputs, "rgb"), pointer<const T>(d_outputs, "depth"),
      pointer<const T>(d_outputs, "alpha"), pointer<const T>(d_outputs, "features")};
  const splat::GaussianGradients<T> gradients = {
      pointer<T>(d_inputs, "means"),          pointer<T>(d_inputs, "quaternions"),
      pointer<T>(d_inputs, "scales"),         pointer<T>(d_inputs, "covariances"),
      pointer<T>(d_inputs, "opacities"),      pointer<T>(d_inputs, "sh"),
      pointer<T>(d_inputs, "colors"),         pointer<T>(d_inputs, "features"),
      pointer<T>(d_inputs, "screen_offsets"), pointer<T>(d_inputs, "cam_from_world")};
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
  bind<float>(m, "StateFloat32", "forward_float32");
  bind<double>(m, "StateFloat64", "forward_float64");
  splat::bind_training(m);
  splat::bind_alignment(m);
  m.def("isa", &splat::isa_name, "The instruction set in use: portable, avx2 or avx512.");
}

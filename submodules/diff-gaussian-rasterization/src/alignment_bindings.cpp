// Alignment, as Python calls it; shapes have been checked there.
#include "alignment_bindings.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>

#include "cpu/alignment_kernel.h"

namespace nb = nanobind;

namespace {

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

// `numbers`: fx fy cx cy, rotation and translation row by row [12], gain, bias, sigma.
template <class T>
splat::AlignmentJob<T> job_of(int residual, const Array<const T>& points, const Array<const T>& reference,
                              const Array<const T>& image, const std::array<double, 19>& numbers,
                              const std::optional<Array<const T>>& reference_gradient) {
  if (points.ndim() != 2 || points.shape(0) != 3 || image.ndim() < 2 || residual < 0 || residual > 2)
    throw std::invalid_argument("expected points [3, P], an image and a kind of residual");
  const size_t samples = points.shape(1), channels = image.ndim() > 2 ? image.shape(2) : 1;
  const bool depth = splat::Residual(residual) == splat::Residual::kInverseDepth;
  if (reference.size() != (depth ? 0 : samples * channels) || image.size() == 0 ||
      (splat::Residual(residual) == splat::Residual::kFeatures && channels % splat::kFeatureStep != 0) ||
      (reference_gradient && reference_gradient->size() != 2 * samples))
    throw std::invalid_argument("expected arrays that fit the points and the image");
  splat::AlignmentJob<T> job{};
  job.residual = splat::Residual(residual);
  job.count = int64_t(points.shape(1));
  job.points = points.data();
  job.reference = reference.data();
  job.image = image.data();
  job.height = int(image.shape(0));
  job.width = int(image.shape(1));
  job.channels = int(channels);
  job.fx = T(numbers[0]);
  job.fy = T(numbers[1]);
  job.cx = T(numbers[2]);
  job.cy = T(numbers[3]);
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 3; ++k) job.rotation[3 * i + k] = T(numbers[4 + 4 * i + k]);
    job.translation[i] = T(numbers[7 + 4 * i]);
  }
  job.gain = T(numbers[16]);
  job.bias = T(numbers[17]);
  job.sigma = T(numbers[18]);
  job.reference_gradient = reference_gradient ? reference_gradient->data() : nullptr;
  return job;
}

template <class T>
std::array<double, splat::kAlignmentSums> normal_equations(int residual, Array<const T> points,
                                                           Array<const T> reference, Array<const T> image,
                                                           const std::array<double, 19>& numbers,
                                                           std::optional<Array<const T>> reference_gradient,
                                                           std::optional<Array<T>> residuals, int threads) {
  splat::AlignmentJob<T> job = job_of<T>(residual, points, reference, image, numbers, reference_gradient);
  if (residuals && int64_t(residuals->size()) != job.count)
    throw std::invalid_argument("expected a residual for every point");
  job.residuals = residuals ? residuals->data() : nullptr;
  std::array<double, splat::kAlignmentSums> sums;
  nb::gil_scoped_release release;
  splat::normal_equations(job, threads, sums.data());
  return sums;
}

template <class T>
void group_equations(int residual, Array<const T> points, Array<const T> reference, Array<const T> image,
                     const std::array<double, 19>& numbers, std::optional<Array<const T>> reference_gradient,
                     Array<const int64_t> begin, Array<double> sums) {
  const splat::AlignmentJob<T> job =
      job_of<T>(residual, points, reference, image, numbers, reference_gradient);
  const int64_t groups = int64_t(begin.size()) - 1, *first = begin.data();
  if (groups < 0 || int64_t(sums.size()) != groups * splat::kAlignmentSums || first[0] < 0 ||
      first[groups] > job.count || !std::is_sorted(first, first + groups + 1))
    throw std::invalid_argument("expected where each group of the points begins");
  nb::gil_scoped_release release;
  splat::group_equations(job, first, groups, sums.data());
}

template <class T>
void bind(nb::module_& m, const char* whole, const char* groups) {
  m.def(whole, &normal_equations<T>, nb::arg("residual"), nb::arg("points"), nb::arg("reference"),
        nb::arg("image"), nb::arg("numbers"), nb::arg("reference_gradient").none(),
        nb::arg("residuals").none(), nb::arg("threads"),
        "Upper triangle of J^T W J [36], J^T W r [8], cost, samples in view; fills `residuals`.");
  m.def(groups, &group_equations<T>, nb::arg("residual"), nb::arg("points"), nb::arg("reference"),
        nb::arg("image"), nb::arg("numbers"), nb::arg("reference_gradient").none(), nb::arg("begin"),
        nb::arg("sums"), "Fills `sums` [groups, 46] with the same of points begin[k] to begin[k + 1].");
}

}  // namespace

namespace splat {

void bind_alignment(nb::module_& m) {
  bind<float>(m, "normal_equations_float32", "group_equations_float32");
  bind<double>(m, "normal_equations_float64", "group_equations_float64");
}

}  // namespace splat

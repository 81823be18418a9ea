// Alignment, as Python calls it; shapes have been checked there.
#include "alignment_bindings.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "argument_error.h"
#include "cpu/alignment_kernel.h"

namespace nb = nanobind;

namespace {

using splat::argument_error;
using splat::shape;

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

// What does not fit would be read beyond its end.
template <class T>
void check_arrays(int residual, const Array<const T>& points, const Array<const T>& reference,
                  const Array<const T>& image, const std::optional<Array<const T>>& reference_gradient) {
  if (points.ndim() != 2 || points.shape(0) != 3)
    throw argument_error("points of shape [3, P]", shape(points), "put their coordinates in three rows");
  if (image.ndim() < 2 || image.size() == 0)
    throw argument_error("an image of shape [H, W] or [H, W, C] that is not empty", shape(image),
                         "give the image of the query");
  if (residual < 0 || residual > 2)
    throw argument_error("a kind of residual from 0 to 2", std::to_string(residual),
                         "0 is photometric, 1 inverse depth, 2 features");
  const auto kind = splat::Residual(residual);
  const size_t samples = points.shape(1), channels = image.ndim() > 2 ? image.shape(2) : 1;
  if (kind == splat::Residual::kFeatures && channels % splat::kFeatureStep != 0)
    throw argument_error("descriptors of a multiple of " + std::to_string(splat::kFeatureStep) + " channels",
                         std::to_string(channels), "pad them with zeros");
  const size_t wanted = kind == splat::Residual::kInverseDepth ? 0 : samples * channels;
  if (reference.size() != wanted)
    throw argument_error(std::to_string(wanted) + " numbers of the reference",
                         std::to_string(reference.size()),
                         "give one for each point and channel, and none for inverse depth");
  if (reference_gradient && reference_gradient->size() != 2 * samples)
    throw argument_error("a reference_gradient of shape [2, " + std::to_string(samples) + "]",
                         shape(*reference_gradient), "give one for each point, or None");
}

// `numbers`: fx fy cx cy, rotation and translation row by row [12], gain, bias, sigma.
template <class T>
splat::AlignmentJob<T> job_of(int residual, const Array<const T>& points, const Array<const T>& reference,
                              const Array<const T>& image, const std::array<double, 19>& numbers,
                              const std::optional<Array<const T>>& reference_gradient) {
  check_arrays<T>(residual, points, reference, image, reference_gradient);
  splat::AlignmentJob<T> job{};
  job.residual = splat::Residual(residual);
  job.count = int64_t(points.shape(1));
  job.points = points.data();
  job.reference = reference.data();
  job.image = image.data();
  job.height = int(image.shape(0));
  job.width = int(image.shape(1));
  job.channels = image.ndim() > 2 ? int(image.shape(2)) : 1;
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
    throw argument_error("residuals of shape [" + std::to_string(job.count) + "]", shape(*residuals),
                         "give one for each point, or None");
  job.residuals = residuals ? residuals->data() : nullptr;
  std::array<double, splat::kAlignmentSums> sums;
  nb::gil_scoped_release release;
  splat::normal_equations(job, threads, sums.data());
  return sums;
}

// `first` [groups + 1]: where each group begins, and where the last one ends.
void check_groups(const int64_t* first, int64_t groups, int64_t points) {
  const std::string remedy = "sort the points by group, and give where each begins and where the last ends";
  if (groups < 0) throw argument_error("where each group of the points begins", "no number", remedy);
  for (int64_t k = 0; k < groups; ++k)
    if (first[k] > first[k + 1])
      throw argument_error("groups of points in ascending order",
                           std::to_string(first[k]) + " before " + std::to_string(first[k + 1]), remedy);
  if (first[0] < 0 || first[groups] > points)
    throw argument_error("groups among " + std::to_string(points) + " points",
                         "points " + std::to_string(first[0]) + " to " + std::to_string(first[groups]),
                         remedy);
}

template <class T>
void group_equations(int residual, Array<const T> points, Array<const T> reference, Array<const T> image,
                     const std::array<double, 19>& numbers, std::optional<Array<const T>> reference_gradient,
                     Array<const int64_t> begin, Array<double> sums) {
  const splat::AlignmentJob<T> job =
      job_of<T>(residual, points, reference, image, numbers, reference_gradient);
  const int64_t groups = int64_t(begin.size()) - 1, *first = begin.data();
  check_groups(first, groups, job.count);
  if (int64_t(sums.size()) != groups * splat::kAlignmentSums)
    throw argument_error(
        "sums of shape [" + std::to_string(groups) + ", " + std::to_string(splat::kAlignmentSums) + "]",
        shape(sums), "give a row for each group");
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

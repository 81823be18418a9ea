// The photometric loss and Adam on the CPU. Shapes, types and devices have been checked in Python.
#include "training_bindings.h"

#include <nanobind/ndarray.h>

#include <string>

#include "argument_error.h"
#include "cpu/training.h"

namespace nb = nanobind;

namespace splat {
namespace {

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

// The address of an array of `size` numbers, which its owner keeps alive.
template <class T>
T* sized(const char* name, nb::handle array, size_t size) {
  const auto given = nb::cast<Array<T>>(array, false);  // a converted copy would not live
  if (given.size() != size)
    throw argument_error(std::to_string(size) + " numbers in the " + name, std::to_string(given.size()),
                         "give it the size of what it belongs to");
  return given.data();
}

// `gradient`: of (1 - lambda) L1 + lambda (1 - SSIM), an array like `rendered`, or None.
template <class T>
nb::tuple photometric_of(Array<const T> rendered, Array<const T> target, nb::object gradient, double lambda,
                         int threads) {
  T* const out = gradient.is_none() ? nullptr : sized<T>("gradient of the image", gradient, rendered.size());
  if (rendered.ndim() != 3 || rendered.shape(0) != 3 || target.size() != rendered.size())
    throw argument_error("images of one shape [3, H, W]", shape(rendered) + " and " + shape(target),
                         "resize one to the other");
  const double pixels = double(rendered.size());
  const PhotometricJob<T> job = photometric_job(rendered.data(), target.data(), out, int(rendered.shape(2)),
                                                int(rendered.shape(1)), lambda);
  const TrainingKernels<T>& kernels = training_kernels<T>();
  PhotometricSums sums;
  {
    nb::gil_scoped_release release;
    sums = photometric(job, threads, kernels);
  }
  return nb::make_tuple(sums.difference / pixels, sums.similarity / pixels);
}

// One parameter: (value, gradient, mean, square, visible or None, rate, step).
template <class T>
AdamJob<T> adam_job(nb::handle item, double beta1, double beta2, double eps) {
  const nb::tuple fields = nb::cast<nb::tuple>(item);
  const auto value = nb::cast<Array<T>>(fields[0], false);
  if (value.ndim() != 2 || value.size() == 0)
    throw argument_error("parameters of shape [N, D] that are not empty", shape(value),
                         "flatten their rows, and leave out empty ones");
  AdamJob<T> job{};
  job.value = value.data();
  job.gradient = sized<const T>("gradient", fields[1], value.size());
  job.mean = sized<T>("mean of gradients", fields[2], value.size());
  job.square = sized<T>("mean of squares", fields[3], value.size());
  if (!fields[4].is_none()) job.visible = sized<const uint8_t>("mask", fields[4], value.shape(0));
  job.rows = int64_t(value.shape(0));
  job.width = int(value.shape(1));
  job.step =
      rounded<T>(adam_step(nb::cast<double>(fields[5]), beta1, beta2, eps, nb::cast<int64_t>(fields[6])));
  return job;
}

template <class T>
void adam_of(nb::list parameters, double beta1, double beta2, double eps, int threads) {
  std::vector<AdamJob<T>> jobs;
  for (nb::handle item : parameters) jobs.push_back(adam_job<T>(item, beta1, beta2, eps));
  const TrainingKernels<T>& kernels = training_kernels<T>();
  nb::gil_scoped_release release;
  adam(jobs, threads, kernels);
}

template <class T>
void bind(nb::module_& m, const char* photometric_name, const char* adam_name) {
  m.def(photometric_name, &photometric_of<T>, nb::arg("rendered").noconvert(), nb::arg("target").noconvert(),
        nb::arg("gradient").none(), nb::arg("lambda_dssim"), nb::arg("threads"),
        "Mean |x - y| and mean SSIM of images [3, H, W]; fills the gradient of the loss.");
  m.def(adam_name, &adam_of<T>, nb::arg("parameters"), nb::arg("beta1"), nb::arg("beta2"), nb::arg("eps"),
        nb::arg("threads"),
        "Steps parameters [N, D], each (value, gradient, mean, square, visible, rate, step), in place.");
}

}  // namespace

void bind_training(nb::module_& m) {
  bind<float>(m, "photometric_float32", "adam_float32");
  bind<double>(m, "photometric_float64", "adam_float64");
}

}  // namespace splat

// The photometric loss and Adam on a GPU. Shapes, types and devices have been checked in Python.
#include "training_bindings.h"

#include "python.h"
#include "training.h"

namespace nb = nanobind;

namespace splat::cuda {
namespace {

// `arrays`: rendered, target, gradient (absent: not wanted) and loss.
void photometric_of(const nb::dict& arrays, int width, int height, double lambda,
                    const nb::callable& callback, uintptr_t stream) {
  const PhotometricJob<float> job =
      photometric_job(address<const float>(arrays, "rendered"), address<const float>(arrays, "target"),
                      address<float>(arrays, "gradient"), width, height, lambda);
  float* loss = address<float>(arrays, "loss");
  nb::gil_scoped_release release;
  photometric(job, loss, allocate_by(callback), stream_from(stream));
}

// `parameters`: (value, gradient, mean, square, visible or None, rows, width, rate, step) each.
void adam_of(const nb::list& parameters, double beta1, double beta2, double eps, uintptr_t stream) {
  std::vector<AdamJob<float>> jobs;
  for (nb::handle item : parameters) {
    const nb::tuple fields = nb::cast<nb::tuple>(item);
    const AdamStep<double> step =
        adam_step(nb::cast<double>(fields[7]), beta1, beta2, eps, nb::cast<int64_t>(fields[8]));
    jobs.push_back({rounded<float>(step), address<float>(fields[0]), address<const float>(fields[1]),
                    address<float>(fields[2]), address<float>(fields[3]), address<const uint8_t>(fields[4]),
                    nb::cast<int64_t>(fields[5]), nb::cast<int>(fields[6])});
  }
  nb::gil_scoped_release release;
  adam(jobs, stream_from(stream));
}

}  // namespace

void bind_training(nb::module_& m) {
  m.def("photometric", &photometric_of, nb::arg("arrays"), nb::arg("width"), nb::arg("height"),
        nb::arg("lambda_dssim"), nb::arg("allocate"), nb::arg("stream"),
        "Writes the loss of images [3, H, W] and its gradient.");
  m.def("adam", &adam_of, nb::arg("parameters"), nb::arg("beta1"), nb::arg("beta2"), nb::arg("eps"),
        nb::arg("stream"), "Steps parameters [N, D] in place.");
}

}  // namespace splat::cuda

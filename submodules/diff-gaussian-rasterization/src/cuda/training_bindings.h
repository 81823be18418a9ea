// What training needs beside the rasterizer, as functions of the CUDA half's Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace splat::cuda {

void bind_training(nanobind::module_& m);

}  // namespace splat::cuda

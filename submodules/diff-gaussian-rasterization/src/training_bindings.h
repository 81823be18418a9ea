// What training needs beside the rasterizer, as functions of the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace splat {

void bind_training(nanobind::module_& m);

}  // namespace splat

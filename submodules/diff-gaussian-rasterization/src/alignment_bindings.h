// Alignment, as functions of the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace splat {

// Adds normal_equations_float32 and normal_equations_float64 to the module.
void bind_alignment(nanobind::module_& m);

}  // namespace splat

// Matching of descriptors, as functions of the Python module.
#pragma once

#include <nanobind/nanobind.h>

namespace splat {

void bind_matching(nanobind::module_& m);

}  // namespace splat

// Stands in for <cuda_runtime.h>: the tests compile the kernels' own sources for the CPU and run them there.
#pragma once

#include "executor.h"
#include "intrinsics.h"
#include "types.h"

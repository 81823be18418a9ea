// What include/splat/*.h expects of a scalar beyond arithmetic, for one float per thread. Include it first.
#pragma once

#include "platform.h"
#include "splat/math.h"

namespace splat {

__device__ __forceinline__ float exponential(float a) { return __expf(a); }
__device__ __forceinline__ bool is_finite(float a) { return fabsf(a) <= 3.402823466e38f; }

}  // namespace splat

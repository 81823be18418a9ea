// What test_on_gpu.py asks of a GPU beside the package: a library for ctypes.
// Compiled by nvcc, together with the kernels whose occupancy it tells.
#include <exception>

#include "render_backward_features.cu"
#include "render_backward_moments.cu"
#include "shim/multiply.h"

namespace splat::cuda {
namespace {

// Blocks of 8 warps that one multiprocessor holds at once, 0 where none fits.
template <class Shared>
int resident(void (*kernel)(RenderBackwardJob), int64_t *shared_bytes) {
  *shared_bytes = sizeof(Shared);
  int blocks = 0;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       int(sizeof(Shared)));
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 8 * kWarp,
                                                sizeof(Shared));
  cudaGetLastError();
  return blocks;
}

} // namespace
} // namespace splat::cuda

using namespace splat::cuda;

extern "C" {

// Device memory: a [16, 8], b [8, 8], d [16, 8]. 0 where it worked.
int multiply(const float *a, const float *b, float *d, bool full) try {
  selftest::run_multiply(a, b, d, full);
  return int(cudaDeviceSynchronize());
} catch (const std::exception &) {
  return -1;
}

int resident_moments(bool features, int64_t *shared_bytes) {
  return resident<MomentsShared<8>>(features ? moments_backward<8, true>
                                             : moments_backward<8, false>,
                                    shared_bytes);
}

int resident_features(bool precise, int64_t *shared_bytes) {
  return precise ? resident<FeatureShared<8, true>>(features_backward<8, true>,
                                                    shared_bytes)
                 : resident<FeatureShared<8, false>>(
                       features_backward<8, false>, shared_bytes);
}

// Shared memory of a multiprocessor.
int64_t multiprocessor_bytes() {
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor,
                         device);
  return bytes;
}

} // extern "C"

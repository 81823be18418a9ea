// CUDA's built-in types and the few runtime calls that platform.h makes, on host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#define SHIM_VECTORS(TYPE, SCALAR)                                                  \
  struct TYPE##2 { SCALAR x, y; }                                                   \
  __align__(2 * sizeof(SCALAR));                                                    \
  struct TYPE##3 { SCALAR x, y, z; };                                               \
  struct TYPE##4 { SCALAR x, y, z, w; }                                             \
  __align__(4 * sizeof(SCALAR));                                                    \
  inline TYPE##2 make_##TYPE##2(SCALAR x, SCALAR y) { return {x, y}; }              \
  inline TYPE##3 make_##TYPE##3(SCALAR x, SCALAR y, SCALAR z) { return {x, y, z}; } \
  inline TYPE##4 make_##TYPE##4(SCALAR x, SCALAR y, SCALAR z, SCALAR w) { return {x, y, z, w}; }

SHIM_VECTORS(float, float)
SHIM_VECTORS(int, int)
SHIM_VECTORS(uint, unsigned)
SHIM_VECTORS(short, short)
SHIM_VECTORS(ushort, unsigned short)
SHIM_VECTORS(uchar, unsigned char)
#undef SHIM_VECTORS

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Of the fiber that is running; the executor keeps them.
inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNotReady = 600
};
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
using cudaStream_t = struct ShimStream*;  // everything runs at once: any value serves

namespace shim {

// What the host asked of the "device" since the last reset, for tests that count.
struct Statistics {
  int64_t launches = 0;
  int64_t synchronizations = 0;
};
inline Statistics statistics;

// What a block may ask for: 227 KB on sm_90, 99 KB on sm_86 and sm_89, 64 KB on sm_75.
constexpr size_t kMaxSharedBytes = 227 << 10;
inline size_t shared_limit = kMaxSharedBytes;  // tests lower it
// Of calls that failed, until it is asked for, as CUDA remembers it.
inline cudaError_t last_error = cudaSuccess;

}  // namespace shim

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                     ? "no error"
         : error == cudaErrorInvalidConfiguration ? "invalid configuration argument"
                                                  : "invalid argument";
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = shim::last_error;
  shim::last_error = cudaSuccess;
  return error;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = int(shim::shared_limit);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
  std::memset(at, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  ++shim::statistics.synchronizations;
  return cudaSuccess;
}

// The few things that CUDA's compiler and the host shim of the tests spell differently. Kernels are ordinary
// CUDA C++: __global__, threadIdx, __syncthreads(), __shfl_sync(), __ballot_sync() and atomics mean the same
// in both. Launches, shared memory, memory traffic and errors go through this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(SPLAT_SHIM)
#include "shim.h"  // tests/cuda/shim: the same names, executed on the CPU
#else
#include <cuda_runtime.h>
#if defined(__CUDACC__)
#include <cuda_pipeline.h>  // __pipeline_memcpy_async() and its kin
#endif
#endif

namespace splat::cuda {

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kWarp = 32;

// A CUDA call or launch that failed; the message says what was asked for. Python sees RuntimeError.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Launch {
  const char* name;  // of the kernel, for messages
  dim3 grid;
  int threads;          // of a block
  size_t shared_bytes;  // of block_shared<T>(): sizeof(T)
  cudaStream_t stream;
};

inline std::string describe(const Launch& at) {
  return std::string(at.name) + " with " + std::to_string(at.grid.x) + " x " + std::to_string(at.grid.y) +
         " x " + std::to_string(at.grid.z) + " blocks of " + std::to_string(at.threads) + " threads and " +
         std::to_string(at.shared_bytes) + " bytes of shared memory";
}

inline void check(cudaError_t status, const std::string& asked) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears CUDA's own record, which the next launch would report
  throw DeviceError("CUDA could not run " + asked + ": " + cudaGetErrorString(status));
}

// What is on record before a launch is not the launch's: every call of this package has been checked.
inline void check_earlier(const Launch& at) {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess || status == cudaErrorNotReady) return;  // the answer to a query is no failure
  throw DeviceError(std::string("CUDA had failed before ") + at.name +
                    " was launched: " + cudaGetErrorString(status) +
                    ": look for the failure in what ran earlier, with CUDA_LAUNCH_BLOCKING=1");
}

#if defined(SPLAT_SHIM)
}  // namespace splat::cuda
#include "shim_launch.h"  // launch() and block_shared() of the shim
namespace splat::cuda {
#elif defined(__CUDACC__)  // the Python bindings are compiled without CUDA's compiler

// The block's shared memory as one struct; the launch says its size.
template <class T>
__device__ __forceinline__ T& block_shared() {
  static_assert(alignof(T) <= 128);
  extern __shared__ __align__(128) unsigned char splat_block_shared[];
  return *reinterpret_cast<T*>(splat_block_shared);
}

template <class... Parameters, class... Arguments>
void launch(const Launch& at, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (at.grid.x == 0 || at.grid.y == 0 || at.grid.z == 0) return;
  check_earlier(at);
  constexpr size_t kWithoutAsking = 48 << 10;
  cudaError_t status = cudaSuccess;
  if (at.shared_bytes > kWithoutAsking)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(at.shared_bytes));
  if (status == cudaSuccess) {
    kernel<<<at.grid, at.threads, at.shared_bytes, at.stream>>>(arguments...);
    status = cudaGetLastError();
  }
  if (status != cudaSuccess) check(status, describe(at));  // the text only where it is needed
}

#endif

// The most shared memory that a block may ask for on the current device: 64 KB on sm_75, 99 to 227 KB since.
inline size_t most_shared_bytes() {
  const char* asked = "a query of the device's shared memory";
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), asked);
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), asked);
  return size_t(bytes);
}

// Work on the stream, in order with the kernels before and after.
inline void fill(void* device, int byte, size_t bytes, cudaStream_t stream) {
  if (bytes)
    check(cudaMemsetAsync(device, byte, bytes, stream), "a fill of " + std::to_string(bytes) + " bytes");
}
inline void clear(void* device, size_t bytes, cudaStream_t stream) { fill(device, 0, bytes, stream); }

// The one place where the host waits for the device.
inline void read_back(void* host, const void* device, size_t bytes, cudaStream_t stream) {
  const std::string asked =
      "a copy of " + std::to_string(bytes) + " bytes to the host, or what came before it";
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), asked);
  check(cudaStreamSynchronize(stream), asked);
}

// Blocks of `each` items that cover `count`; throws where a grid cannot be that large.
inline dim3 blocks_for(int64_t count, int each) {
  const int64_t blocks = (count + each - 1) / each;
  if (blocks > INT32_MAX)
    throw DeviceError("expected fewer than 2^31 blocks, found " + std::to_string(blocks) +
                      ": render fewer Gaussians or a smaller image");
  return dim3(unsigned(blocks));
}

}  // namespace splat::cuda

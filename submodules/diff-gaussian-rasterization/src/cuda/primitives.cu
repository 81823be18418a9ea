#include "primitives.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

namespace splat::cuda {
namespace {

// CUB's functions return the size of their scratch memory if called without any.
template <class Function>
void run(const char* name, int64_t count, const Allocate& memory, Function&& function) {
  const std::string asked = std::string(name) + " of " + std::to_string(count) + " items";
  size_t bytes = 0;
  check(function(nullptr, bytes), asked);
  check(function(memory(int64_t(std::max<size_t>(bytes, 1))), bytes), asked);
}

// Sums of int32 may need 64 bits.
struct Widen {
  __host__ __device__ int64_t operator()(int32_t a) const { return a; }
};

}  // namespace

void sort_pairs(const uint32_t* keys_in, uint32_t* keys_out, const uint32_t* values_in, uint32_t* values_out,
                int64_t count, int bits, const Allocate& memory, cudaStream_t stream) {
  if (count == 0) return;
  run("a sort", count, memory, [&](void* temporary, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(temporary, bytes, keys_in, keys_out, values_in, values_out, count,
                                           0, bits, stream);
  });
}

void exclusive_sum(const int32_t* in, int64_t* out, int64_t count, const Allocate& memory,
                   cudaStream_t stream) {
  clear(out, sizeof(int64_t), stream);
  if (count == 0) return;
  const auto wide = thrust::make_transform_iterator(in, Widen());
  run("a sum", count, memory, [&](void* temporary, size_t& bytes) {
    return cub::DeviceScan::InclusiveSum(temporary, bytes, wide, out + 1, count, stream);
  });
}

void select_flagged(const uint8_t* flags, uint32_t* selected, int64_t* selected_count, int64_t count,
                    const Allocate& memory, cudaStream_t stream) {
  if (count == 0) return clear(selected_count, sizeof(int64_t), stream);
  const thrust::counting_iterator<uint32_t> indices(0);
  run("a selection", count, memory, [&](void* temporary, size_t& bytes) {
    return cub::DeviceSelect::Flagged(temporary, bytes, indices, flags, selected, selected_count, count,
                                      stream);
  });
}

}  // namespace splat::cuda

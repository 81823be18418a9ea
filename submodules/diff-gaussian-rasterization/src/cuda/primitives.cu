#include "primitives.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

namespace splat::cuda {
namespace {

std::string asked(const char* name, int64_t count) {
  return std::string(name) + " of " + std::to_string(count) + " items";
}

// Sums of int32 may need 64 bits.
struct Widen {
  __host__ __device__ int64_t operator()(int32_t a) const { return a; }
};

// CUB's functions write the size of their temporary memory to `bytes` if called without any.
cudaError_t sort(void* temporary, size_t& bytes, const uint32_t* keys_in, uint32_t* keys_out,
                 const uint32_t* values_in, uint32_t* values_out, int64_t count, int bits,
                 cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(temporary, bytes, keys_in, keys_out, values_in, values_out, count, 0,
                                         bits, stream);
}

cudaError_t sum(void* temporary, size_t& bytes, const int32_t* in, int64_t* out, int64_t count,
                cudaStream_t stream) {
  const auto wide = thrust::make_transform_iterator(in, Widen());
  return cub::DeviceScan::InclusiveSum(temporary, bytes, wide, out, count, stream);
}

cudaError_t select(void* temporary, size_t& bytes, const uint8_t* flags, uint32_t* selected,
                   int64_t* selected_count, int64_t count, cudaStream_t stream) {
  const thrust::counting_iterator<uint32_t> indices(0);
  return cub::DeviceSelect::Flagged(temporary, bytes, indices, flags, selected, selected_count, count,
                                    stream);
}

// At least one: a null pointer would ask for the size again.
int64_t checked(const char* name, int64_t count, cudaError_t status, size_t bytes) {
  check(status, asked(name, count));
  return bytes > 0 ? int64_t(bytes) : 1;
}

}  // namespace

int64_t sort_bytes(int64_t count, int bits) {
  if (count == 0) return 1;
  size_t bytes = 0;
  const cudaError_t status = sort(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, count, bits, nullptr);
  return checked("a sort", count, status, bytes);
}

int64_t sum_bytes(int64_t count) {
  if (count == 0) return 1;
  size_t bytes = 0;
  return checked("a sum", count, sum(nullptr, bytes, nullptr, nullptr, count, nullptr), bytes);
}

int64_t select_bytes(int64_t count) {
  if (count == 0) return 1;
  size_t bytes = 0;
  const cudaError_t status = select(nullptr, bytes, nullptr, nullptr, nullptr, count, nullptr);
  return checked("a selection", count, status, bytes);
}

void sort_pairs(const uint32_t* keys_in, uint32_t* keys_out, const uint32_t* values_in, uint32_t* values_out,
                int64_t count, int bits, Temporary temporary, cudaStream_t stream) {
  if (count == 0) return;
  size_t bytes = size_t(temporary.bytes);
  check(sort(temporary.at, bytes, keys_in, keys_out, values_in, values_out, count, bits, stream),
        asked("a sort", count));
}

void exclusive_sum(const int32_t* in, int64_t* out, int64_t count, Temporary temporary, cudaStream_t stream) {
  clear(out, sizeof(int64_t), stream);
  if (count == 0) return;
  size_t bytes = size_t(temporary.bytes);
  check(sum(temporary.at, bytes, in, out + 1, count, stream), asked("a sum", count));
}

void select_flagged(const uint8_t* flags, uint32_t* selected, int64_t* selected_count, int64_t count,
                    Temporary temporary, cudaStream_t stream) {
  if (count == 0) return clear(selected_count, sizeof(int64_t), stream);
  size_t bytes = size_t(temporary.bytes);
  check(select(temporary.at, bytes, flags, selected, selected_count, count, stream),
        asked("a selection", count));
}

}  // namespace splat::cuda

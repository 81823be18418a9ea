// Device-wide sort, scan and selection: CUB (primitives.cu), or its twin in the tests' host shim.
#pragma once

#include "memory.h"
#include "platform.h"

namespace splat::cuda {

// Memory that a primitive uses while it runs; as many bytes as its own function below returns.
struct Temporary {
  void* at;
  int64_t bytes;
};
int64_t sort_bytes(int64_t count, int bits);
int64_t sum_bytes(int64_t count);
int64_t select_bytes(int64_t count);

// Stable ascending sort of the low `bits` of the keys; the pairs end up in keys_out and values_out.
void sort_pairs(const uint32_t* keys_in, uint32_t* keys_out, const uint32_t* values_in, uint32_t* values_out,
                int64_t count, int bits, Temporary temporary, cudaStream_t stream);

// out[i] = in[0] + ... + in[i - 1] for i = 0 ... count: `out` has one entry more than `in`.
void exclusive_sum(const int32_t* in, int64_t* out, int64_t count, Temporary temporary, cudaStream_t stream);

// The indices of non-zero flags in ascending order; room for `count` of them. Writes their number to the
// device.
void select_flagged(const uint8_t* flags, uint32_t* selected, int64_t* selected_count, int64_t count,
                    Temporary temporary, cudaStream_t stream);

}  // namespace splat::cuda

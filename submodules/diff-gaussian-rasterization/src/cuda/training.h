// The photometric loss and Adam on a GPU: the twins of cpu/training.h, for float.
#pragma once

#include <vector>

#include "memory.h"
#include "platform.h"
#include "training_arrays.h"

namespace splat::cuda {

// Writes the loss, one number on the device, and the gradient where it is wanted. Sums are in a fixed order:
// the loss is the same in every run. The host does not wait.
void photometric(const PhotometricJob<float>& job, float* loss, const Allocate& memory, cudaStream_t stream);

// Steps every parameter.
void adam(const std::vector<AdamJob<float>>& jobs, cudaStream_t stream);

}  // namespace splat::cuda

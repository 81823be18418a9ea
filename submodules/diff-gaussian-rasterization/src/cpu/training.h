// The photometric loss and Adam, spread over threads.
#pragma once

#include <vector>

#include "training_kernels.h"

namespace splat {

// Sums over all pixels and channels; fills job.gradient. The result does not depend on the number of threads.
template <class T>
PhotometricSums photometric(const PhotometricJob<T>& job, int threads, const TrainingKernels<T>& kernels);

// Steps every parameter.
template <class T>
void adam(const std::vector<AdamJob<T>>& jobs, int threads, const TrainingKernels<T>& kernels);

}  // namespace splat

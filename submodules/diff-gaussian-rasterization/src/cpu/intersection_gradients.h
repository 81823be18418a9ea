// From per-intersection gradients to sums per Gaussian, always added in the same order. Compiled once per
// instruction set.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "lane_rows.h"
#include "simd.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

// The gradients of one Gaussian lie scattered in memory. Fetches those of the lanes from Gaussian i on, and
// the hits of the lanes after them.
template <class T>
SPLAT_LANE void prefetch_gradients(const ProjectBackwardJob<T>& job, int r, int64_t i) {
  const int64_t n = Vec<T>::kCount, count = job.in.count;
  const uint32_t* positions = job.positions[r];
  const int64_t* begin = job.gaussian_begin[r];
  const int64_t first = begin[std::min(i, count)], middle = begin[std::min(i + n, count)];
  const int64_t last = begin[std::min(i + 2 * n, count)];
  for (int64_t s = middle; s < last; ++s) __builtin_prefetch(job.hits[r] + positions[s]);
  for (int64_t s = first; s < middle; ++s) {
    if (!job.hits[r][positions[s]]) continue;
    const char* row = (const char*)(job.gradients[r] + int64_t(positions[s]) * kGradientStride);
    __builtin_prefetch(row);
    if (sizeof(T) * kGradients > 64) __builtin_prefetch(row + 64);
  }
}

#if defined(__AVX512F__)
// sum_gradients() with a row of gradients in one vector.
SPLAT_LANE void sum_rows(const ProjectBackwardJob<float>& job, int r, int64_t i, int lanes,
                         Vec<float>* sums) {
  static_assert(kGradients <= 16 && kGradients % 4 == 0 && kGradientStride == 16);
  constexpr __mmask16 kWritten = (1 << kGradients) - 1;
  alignas(64) float total[16][16];
  for (int l = 0; l < 16; ++l) {
    __m512 own = _mm512_setzero_ps();
    const int64_t end = l < lanes ? job.gaussian_begin[r][i + l + 1] : 0;
    for (int64_t s = l < lanes ? job.gaussian_begin[r][i + l] : 0; s < end; ++s) {
      const int64_t at = job.positions[r][s];
      if (!job.hits[r][at]) continue;
      own = _mm512_add_ps(own, _mm512_maskz_loadu_ps(kWritten, job.gradients[r] + at * kGradientStride));
    }
    _mm512_store_ps(total[l], own);
  }
  for (int k = 0; k < kGradients; k += 4) load_quads(total[0] + k, 16, sums + k);
}
#endif

// The sums of the gradients of the lanes' Gaussians in raster r, always in the same order.
template <class T>
SPLAT_LANE void sum_gradients(const ProjectBackwardJob<T>& job, int r, int64_t i, int lanes, Vec<T>* sums) {
  prefetch_gradients(job, r, i + lanes);
#if defined(__AVX512F__)
  if constexpr (kTransposes<T>) return sum_rows(job, r, i, lanes, sums);
#endif
  T total[Vec<T>::kCount][kGradients] = {};
  for (int l = 0; l < lanes; ++l)
    for (int64_t s = job.gaussian_begin[r][i + l]; s < job.gaussian_begin[r][i + l + 1]; ++s) {
      const int64_t at = job.positions[r][s];
      if (!job.hits[r][at]) continue;
      for (int k = 0; k < kGradients; ++k) total[l][k] += job.gradients[r][at * kGradientStride + k];
    }
  T column[Vec<T>::kCount];
  for (int k = 0; k < kGradients; ++k) {
    for (int l = 0; l < Vec<T>::kCount; ++l) column[l] = total[l][k];
    sums[k] = Vec<T>::load(column);
  }
}

// The lanes whose Gaussians touch a tile of any raster: all others keep their zero gradients.
template <class T>
SPLAT_LANE uint32_t seen_lanes(const ProjectBackwardJob<T>& job, int64_t i, int lanes) {
  uint32_t seen = 0;
  for (int r = 0; r < job.rasters; ++r)
    for (int l = 0; job.gradients[r] && l < lanes; ++l)
      seen |= uint32_t(job.gaussian_begin[r][i + l] != job.gaussian_begin[r][i + l + 1]) << l;
  return seen;
}

// Fetches the feature gradients of Gaussian `near`, and the hits of Gaussian `far`, which comes later.
template <class T>
SPLAT_LANE void prefetch_feature_gradients(const ProjectBackwardJob<T>& job, int64_t near, int64_t far) {
  const int64_t* begin = job.gaussian_begin[job.feature_raster];
  const uint32_t* positions = job.positions[job.feature_raster];
  const uint16_t* hits = job.hits[job.feature_raster];
  for (int64_t s = begin[far]; s < begin[far + 1]; ++s) {
    __builtin_prefetch(hits + positions[s]);
    __builtin_prefetch(job.feature_gradient_of + positions[s]);
  }
  if (begin[near + 1] - begin[near] < 2) return;
  for (int64_t s = begin[near]; s < begin[near + 1]; ++s) {
    if (!hits[positions[s]]) continue;
    const char* row = (const char*)(job.feature_gradients +
                                    int64_t(job.feature_gradient_of[positions[s]]) * job.in.channels);
    for (int64_t byte = 0; byte < int64_t(sizeof(T)) * job.in.channels; byte += 64)
      __builtin_prefetch(row + byte);
  }
}

// Sums the feature gradients. Where a Gaussian touches one tile only, that tile has written the sum already.
template <class T>
void sum_feature_gradients(const ProjectBackwardJob<T>& job, int64_t begin, int64_t end) {
  const int channels = job.in.channels;
  const int64_t* gaussian_begin = job.gaussian_begin[job.feature_raster];
  const uint32_t* positions = job.positions[job.feature_raster];
  const uint16_t* hits = job.hits[job.feature_raster];
  for (int64_t i = begin; i < end; ++i) {
    prefetch_feature_gradients(job, std::min(i + 4, end - 1), std::min(i + 16, end - 1));
    const int64_t first = gaussian_begin[i], last = gaussian_begin[i + 1];
    if (last - first == 1 && hits[positions[first]]) continue;
    T* out = job.out.features + i * channels;
    bool empty = true;
    for (int64_t s = first; s < last; ++s) {
      if (!hits[positions[s]]) continue;
      const T* row = job.feature_gradients + int64_t(job.feature_gradient_of[positions[s]]) * channels;
      if (empty)
        std::memcpy(out, row, sizeof(T) * channels);
      else
        for (int c = 0; c < channels; ++c) out[c] += row[c];
      empty = false;
    }
    if (empty && !job.features_zeroed) std::memset(out, 0, sizeof(T) * channels);
  }
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

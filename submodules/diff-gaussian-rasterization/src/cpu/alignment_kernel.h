// Normal equations of image alignment: samples of a reference image, lifted by their depth, are moved into a
// query image and compared there. J^T W J and J^T W r are summed sample by sample; the Jacobian is never
// stored.
#pragma once

#include <cstdint>

namespace splat {

// Of the pose, a left perturbation (rho, phi), and of the exposure, gain and bias.
constexpr int kUnknowns = 8;
constexpr int kTriangle = kUnknowns * (kUnknowns + 1) / 2;
// What is summed: the upper triangle of J^T W J by rows, J^T W r, the cost, how many samples are in view.
enum AlignmentSum { kGradientSum = kTriangle, kCostSum = kGradientSum + kUnknowns, kSeenSum, kAlignmentSums };

// kPhotometric: I(u) - gain J - bias. kInverseDepth: D(u) - 1 / z, D in 1/m and 0 where unknown.
// kFeatures: F(u) - f, whose square is summed over the channels.
enum class Residual { kPhotometric, kInverseDepth, kFeatures };

template <class T>
struct AlignmentJob {
  Residual residual;
  int64_t count;
  const T* points;     // [3, count] in the reference camera
  const T* reference;  // [count], features [count, channels]; not used with kInverseDepth
  const T*
      reference_gradient;  // [2, count] per pixel of `image`, averaged with the gradient of `image`; or null
  const T* image;          // [height, width], features [height, width, channels], of the query
  int width, height;
  int channels;         // of features, a multiple of kFeatureStep
  T fx, fy, cx, cy;     // pixels of `image`
  T rotation[9];        // query camera from reference camera
  T translation[3];     //
  T gain, bias, sigma;  // sigma: of the residuals, for Geman and McClure's robust cost
  T* residuals;         // [count] or null: of features their norm, NaN where not in view
};

constexpr int kFeatureStep = 16;
constexpr int64_t kSampleChunk = 1024;  // samples per work item; a multiple of every lane count

// Adds samples [begin, end) to sums [kAlignmentSums].
template <class T>
using AlignmentKernel = void (*)(const AlignmentJob<T>&, int64_t begin, int64_t end, double* sums);

// Writes sums [kAlignmentSums], which do not depend on the number of threads.
template <class T>
void normal_equations(const AlignmentJob<T>& job, int threads, double* sums);

// Likewise, of samples that lie group by group, for each group: sums [groups, kAlignmentSums] of samples
// [begin[k], begin[k + 1]), `begin` ascending. The job's residuals are not written.
template <class T>
void group_equations(AlignmentJob<T> job, const int64_t* begin, int64_t groups, double* sums);

}  // namespace splat

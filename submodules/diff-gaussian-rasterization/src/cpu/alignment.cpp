// The schedule of an alignment's normal equations: chunks over threads, summed in order.
#include <algorithm>
#include <string_view>
#include <vector>

#include "alignment_kernel.h"
#include "kernels.h"
#include "team.h"

#define SPLAT_DECLARE_ALIGNMENT(ISA)                                                   \
  namespace splat::ISA {                                                               \
  void align_float(const AlignmentJob<float>&, int64_t begin, int64_t end, double*);   \
  void align_double(const AlignmentJob<double>&, int64_t begin, int64_t end, double*); \
  }

SPLAT_DECLARE_ALIGNMENT(portable)
#if defined(SPLAT_X86)
SPLAT_DECLARE_ALIGNMENT(avx2)
SPLAT_DECLARE_ALIGNMENT(avx512)
#endif

namespace splat {
namespace {

constexpr int64_t kChunksPerThread = 16;  // fewer take less time than starting a thread for them

template <class T>
AlignmentKernel<T> choose(AlignmentKernel<float> for_float, AlignmentKernel<double> for_double) {
  if constexpr (sizeof(T) == sizeof(float))
    return for_float;
  else
    return for_double;
}

template <class T>
AlignmentKernel<T> alignment_kernel() {
#if defined(SPLAT_X86)
  const std::string_view isa = isa_name();
  if (isa == "avx512") return choose<T>(avx512::align_float, avx512::align_double);
  if (isa == "avx2") return choose<T>(avx2::align_float, avx2::align_double);
#endif
  return choose<T>(portable::align_float, portable::align_double);
}

}  // namespace

template <class T>
void normal_equations(const AlignmentJob<T>& job, int threads, double* sums) {
  const AlignmentKernel<T> kernel = alignment_kernel<T>();
  const int64_t chunks = (job.count + kSampleChunk - 1) / kSampleChunk;
  std::vector<double> parts(chunks * kAlignmentSums, 0.0);
  const auto body = [&](int64_t item, int) {
    const int64_t begin = item * kSampleChunk;
    kernel(job, begin, std::min(job.count, begin + kSampleChunk), parts.data() + item * kAlignmentSums);
  };
  const int members = int(std::min<int64_t>(threads, chunks / kChunksPerThread));
  if (members <= 1) {
    for (int64_t item = 0; item < chunks; ++item) body(item, 0);
  } else {
    Team(members).each(chunks, body);
  }
  std::fill(sums, sums + kAlignmentSums, 0.0);
  for (size_t i = 0; i < parts.size(); ++i) sums[i % kAlignmentSums] += parts[i];
}

template <class T>
void group_equations(AlignmentJob<T> job, const int64_t* begin, int64_t groups, double* sums) {
  const AlignmentKernel<T> kernel = alignment_kernel<T>();
  job.residuals = nullptr;
  std::fill(sums, sums + groups * kAlignmentSums, 0.0);
  for (int64_t k = 0; k < groups; ++k)
    for (int64_t i = begin[k]; i < begin[k + 1]; i += kSampleChunk)
      kernel(job, i, std::min(begin[k + 1], i + kSampleChunk), sums + k * kAlignmentSums);
}

template void normal_equations(const AlignmentJob<float>&, int, double*);
template void normal_equations(const AlignmentJob<double>&, int, double*);
template void group_equations(AlignmentJob<float>, const int64_t*, int64_t, double*);
template void group_equations(AlignmentJob<double>, const int64_t*, int64_t, double*);

}  // namespace splat

// The schedule of matching: parts of b over threads, whose maxima are merged.
#include <algorithm>
#include <limits>
#include <string_view>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "matching_kernel.h"
#include "team.h"

#define SPLAT_DECLARE_MATCHING(ISA)                                              \
  namespace splat::ISA {                                                         \
  void nearest_block(const NearestJob&, int64_t, int64_t, float*, Best*, Best*); \
  void near_block(const NearJob&, int64_t, int64_t, Best*, Best*);               \
  }

SPLAT_DECLARE_MATCHING(portable)
#if defined(SPLAT_X86)
SPLAT_DECLARE_MATCHING(avx2)
SPLAT_DECLARE_MATCHING(avx512)
#endif

namespace splat {
namespace {

constexpr Best kNothing = {-std::numeric_limits<float>::infinity(), 0};

struct MatchingKernels {
  NearestKernel nearest;
  NearKernel near;
};

MatchingKernels matching_kernels() {
#if defined(SPLAT_X86)
  const std::string_view isa = isa_name();
  if (isa == "avx512") return {avx512::nearest_block, avx512::near_block};
  if (isa == "avx2") return {avx2::nearest_block, avx2::near_block};
#endif
  return {portable::nearest_block, portable::near_block};
}

// The better of two: of equal ones the first row, in whatever order they come.
void improve(Best& best, const Best& other) {
  const bool equal = other.value == best.value && other.value > kNothing.value;
  if (other.value > best.value || (equal && other.index < best.index)) best = other;
}

// The best of `size` rows over all members of a team [members, size].
void merge(const std::vector<Best>& members, int64_t size, Best* best) {
  std::fill(best, best + size, kNothing);
  for (size_t first = 0; first < members.size(); first += size)
    for (int64_t i = 0; i < size; ++i) improve(best[i], members[first + i]);
}

}  // namespace

void nearest(const NearestJob& job, int threads, Best* of_a, Best* of_b) {
  const NearestKernel kernel = matching_kernels().nearest;
  const int64_t chunks = (job.columns + kNearestChunk - 1) / kNearestChunk;
  const Team team(int(std::min<int64_t>(threads, chunks)));
  std::vector<Best> best(team.size() * job.rows, kNothing), found(team.size() * job.rows);
  const int64_t each = kNearestChunk * job.channels;
  const Buffer<float> panels(each * team.size());
  team.each(chunks, [&](int64_t chunk, int member) {
    const int64_t begin = chunk * kNearestChunk, end = std::min(begin + kNearestChunk, job.columns);
    Best* const own = best.data() + member * job.rows;
    Best* const now = found.data() + member * job.rows;
    kernel(job, begin, end, panels.data() + each * member, now, of_b);
    for (int64_t i = 0; i < job.rows; ++i) improve(own[i], now[i]);
  });
  merge(best, job.rows, of_a);
}

void nearest_within(const NearJob& job, int threads, Best* of_a, Best* of_b) {
  const NearKernel kernel = matching_kernels().near;
  const int64_t chunks = (job.columns + kNearChunk - 1) / kNearChunk;
  const Team team(int(std::min<int64_t>(threads, chunks)));
  std::vector<Best> best(team.size() * job.rows, kNothing);
  team.each(chunks, [&](int64_t chunk, int member) {  // a member's chunks ascend
    const int64_t begin = chunk * kNearChunk, end = std::min(begin + kNearChunk, job.columns);
    kernel(job, begin, end, best.data() + member * job.rows, of_b);
  });
  merge(best, job.rows, of_a);
}

}  // namespace splat

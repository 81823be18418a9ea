// primitives.h on the CPU: the contract by the shortest means.
#include "primitives.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace splat::cuda {

int64_t sort_bytes(int64_t, int) { return 1; }
int64_t sum_bytes(int64_t) { return 1; }
int64_t select_bytes(int64_t) { return 1; }

void sort_pairs(const uint32_t* keys_in, uint32_t* keys_out, const uint32_t* values_in, uint32_t* values_out,
                int64_t count, int bits, Temporary, cudaStream_t) {
  const uint32_t mask = bits >= 32 ? 0xffffffffu : (1u << bits) - 1;
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return (keys_in[a] & mask) < (keys_in[b] & mask); });
  for (int64_t i = 0; i < count; ++i) {
    keys_out[i] = keys_in[order[size_t(i)]];
    values_out[i] = values_in[order[size_t(i)]];
  }
}

void exclusive_sum(const int32_t* in, int64_t* out, int64_t count, Temporary, cudaStream_t) {
  out[0] = 0;
  for (int64_t i = 0; i < count; ++i) out[i + 1] = out[i] + in[i];
}

void select_flagged(const uint8_t* flags, uint32_t* selected, int64_t* selected_count, int64_t count,
                    Temporary, cudaStream_t) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i)
    if (flags[i]) selected[found++] = uint32_t(i);
  *selected_count = found;
}

}  // namespace splat::cuda

// Adam over the rows of one parameter. Compiled once per instruction set.
#include <algorithm>

#include "partial.h"
// after partial.h: adam() calls its square_root()
#include "training_kernels.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

// One bit per visible row, of up to a vector's lanes of them.
uint32_t visible_rows(const uint8_t* visible, int rows) {
  uint32_t bits = 0;
  for (int r = 0; r < rows; ++r) bits |= uint32_t(visible[r] != 0) << r;
  return bits;
}

// One bit per lane of the vector that begins `offset` numbers after the first of these rows.
template <class T>
SPLAT_LANE uint32_t visible_lanes(uint32_t visible, int offset, int width) {
  constexpr int kLanes = Vec<T>::kCount;
  uint32_t lanes = 0;
  for (int r = offset / width; r * width < offset + kLanes; ++r) {
    const int from = std::max(r * width - offset, 0), to = std::min((r + 1) * width - offset, kLanes);
    lanes |= (((1u << (to - from)) - 1) << from) * (visible >> r & 1);
  }
  return lanes;
}

// Steps the `count` numbers from `i` on. Numbers outside the mask are written back unchanged; without a mask
// all are stepped.
template <class T>
SPLAT_LANE void step_numbers(const AdamJob<T>& job, int64_t i, int count, const Mask<T>* lanes) {
  using V = Vec<T>;
  const V value = load_first(job.value + i, count), mean = load_first(job.mean + i, count);
  const V square = load_first(job.square + i, count);
  V new_value = value, new_mean = mean, new_square = square;
  adam<V, T>(job.step, load_first(job.gradient + i, count), new_value, new_mean, new_square);
  store_first(job.value + i, lanes ? select(*lanes, new_value, value) : new_value, count);
  store_first(job.mean + i, lanes ? select(*lanes, new_mean, mean) : new_mean, count);
  store_first(job.square + i, lanes ? select(*lanes, new_square, square) : new_square, count);
}

// All numbers [begin, end). The job is a copy, which no store into the arrays can change.
template <class T>
void step_range(const AdamJob<T> job, int64_t begin, int64_t end) {
  constexpr int kLanes = Vec<T>::kCount;
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) step_numbers<T>(job, i, kLanes, nullptr);
  if (i < end) step_numbers<T>(job, i, int(end - i), nullptr);
}

// As many rows at a time as a vector has lanes: they are whole vectors, whatever their width.
template <class T>
void step_rows(const AdamJob<T> job, int64_t first, int64_t last) {
  constexpr int kLanes = Vec<T>::kCount;
  if (!job.visible) return step_range(job, first * job.width, last * job.width);
  for (int64_t row = first; row < last; row += kLanes) {
    const int rows = int(std::min<int64_t>(last - row, kLanes));
    const uint32_t visible = visible_rows(job.visible + row, rows);
    const int64_t begin = row * job.width;
    for (int i = 0; visible && i < rows * job.width; i += kLanes) {
      const uint32_t lanes = visible_lanes<T>(visible, i, job.width);
      const Mask<T> mask = mask_of<T>(lanes);
      if (lanes) step_numbers(job, begin + i, std::min(rows * job.width - i, kLanes), &mask);
    }
  }
}

}  // namespace

void adam_float(const AdamJob<float>& job, int64_t first, int64_t last) { step_rows(job, first, last); }
void adam_double(const AdamJob<double>& job, int64_t first, int64_t last) { step_rows(job, first, last); }

}  // namespace SPLAT_ISA
}  // namespace splat

// Inner products of descriptors and their maxima. Compiled once per instruction set.
#include "matching_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "partial.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

using V = Vec<float>;
constexpr int kLanes = V::kCount;
constexpr int kPanel = 2 * kLanes;  // rows of b that a block of `a` is multiplied with at once
constexpr int kRows = kVectorBytes == 64 ? 12 : 4;  // of a block: its products stay in registers
constexpr float kFarthest = 1e6f;                   // pixels
constexpr float kNone = -std::numeric_limits<float>::infinity();

// Rows [begin, begin + count) of b, transposed: [channels, kPanel]; zeros beyond `count`.
void pack(const NearestJob& job, int64_t begin, int count, float* panel) {
  for (int64_t k = 0; k < job.channels; ++k)
    for (int i = 0; i < kPanel; ++i)
      panel[k * kPanel + i] = i < count ? job.b[(begin + i) * job.channels + k] : 0;
}

// The maxima of one row of a, lane by lane.
struct Running {
  V value[2], index[2];
};

// The products of a block of a and a panel: maxima of the rows, and of the columns, where `first` is the
// number of the block's first row. Numbers of rows are floats: they are exact up to 2^24.
SPLAT_LANE void multiply(const float* const* a, int64_t channels, const float* panel, const V* missing,
                         V first_column, float first_row, Running* rows, V* column_value, V* column_row) {
  V sums[kRows][2];
  for (auto& row : sums)
    for (int half = 0; half < 2; ++half) row[half] = missing[half];
  for (int64_t k = 0; k < channels; ++k) {
    const V left = V::load(panel + k * kPanel), right = V::load(panel + k * kPanel + kLanes);
    for (int i = 0; i < kRows; ++i) {
      const V factor = V(a[i][k]);
      sums[i][0] = sums[i][0] + factor * left;
      sums[i][1] = sums[i][1] + factor * right;
    }
  }
  for (int half = 0; half < 2; ++half) {
    const V column = first_column + V(float(half * kLanes));
    V best = column_value[half], best_row = column_row[half];
    for (int i = 0; i < kRows; ++i) {
      const V found = sums[i][half];
      Running& row = rows[i];
      const Mask<float> higher = found > row.value[half];
      row.value[half] = select(higher, found, row.value[half]);
      row.index[half] = select(higher, column, row.index[half]);
      const Mask<float> better = found > best;
      best = select(better, found, best);
      best_row = select(better, V(first_row + float(i)), best_row);
    }
    column_value[half] = best;
    column_row[half] = best_row;
  }
}

// The highest of all lanes; of equal ones that of the lowest index.
Best highest(const Running& row, int64_t begin) {
  Best best = {kNone, 0};
  float lowest = 0;
  for (int half = 0; half < 2; ++half) {
    float values[kLanes], index[kLanes];
    row.value[half].store(values);
    row.index[half].store(index);
    for (int i = 0; i < kLanes; ++i)
      if (values[i] > best.value || (values[i] == best.value && values[i] > kNone && index[i] < lowest)) {
        best = {values[i], int32_t(begin + int64_t(index[i]))};
        lowest = index[i];
      }
  }
  return best;
}

// Inner products [4] of a descriptor with four others.
void products(const float* const* a, const float* b, int64_t channels, float* out) {
  V sums[4] = {V(0.f), V(0.f), V(0.f), V(0.f)};
  for (int64_t k = 0; k < channels; k += kLanes) {
    const int left = int(std::min<int64_t>(kLanes, channels - k));
    const V factor = load_first(b + k, left);
    for (int i = 0; i < 4; ++i) sums[i] = sums[i] + load_first(a[i] + k, left) * factor;
  }
  store_sums(sums, out);
}

// The points of a run of cells that are within the radius of (x, y), in batches: tests that are hard to
// predict and products do not wait for each other then.
constexpr int kNearBatch = 64;

int pick_near(const NearJob& job, int32_t first, int32_t last, float x, float y, int32_t* found) {
  const float squared = job.radius * job.radius;
  int count = 0;
  for (int32_t i = first; i < last; ++i) {
    const float dx = job.xy_a[2 * i] - x, dy = job.xy_a[2 * i + 1] - y;
    found[count] = i;
    count += dx * dx + dy * dy < squared;
  }
  return count;
}

}  // namespace

void nearest_block(const NearestJob& job, int64_t begin, int64_t end, float* panels, Best* of_a, Best* of_b) {
  static_assert(kNearestChunk % kPanel == 0);
  constexpr int kPanels = int(kNearestChunk) / kPanel;
  const int used = int((end - begin + kPanel - 1) / kPanel);
  V missing[kPanels][2], column_value[kPanels][2], column_row[kPanels][2];
  for (int p = 0; p < used; ++p) {
    const int count = int(std::min<int64_t>(kPanel, end - begin - p * kPanel));
    pack(job, begin + p * kPanel, count, panels + p * kPanel * job.channels);
    for (int half = 0; half < 2; ++half) {
      const V lane = V::indices() + V(float(half * kLanes));
      missing[p][half] = select(lane < V(float(count)), V(0.f), V(kNone));
      column_value[p][half] = V(kNone);
      column_row[p][half] = V(0.f);
    }
  }
  for (int64_t row = 0; row < job.rows; row += kRows) {
    const float* a[kRows];
    Running rows[kRows];
    for (int i = 0; i < kRows; ++i) {
      a[i] = job.a + std::min(row + i, job.rows - 1) * job.channels;  // the last row again: it is no better
      for (int half = 0; half < 2; ++half) rows[i].value[half] = V(kNone), rows[i].index[half] = V(0.f);
    }
    for (int p = 0; p < used; ++p)
      multiply(a, job.channels, panels + p * kPanel * job.channels, missing[p],
               V::indices() + V(float(p * kPanel)), float(row), rows, column_value[p], column_row[p]);
    for (int i = 0; i < kRows && row + i < job.rows; ++i) of_a[row + i] = highest(rows[i], begin);
  }
  for (int p = 0; p < used; ++p)
    for (int half = 0; half < 2; ++half) {
      float values[kLanes], row[kLanes];
      column_value[p][half].store(values);
      column_row[p][half].store(row);
      const int64_t at = begin + p * kPanel + half * kLanes;
      for (int i = 0; i < kLanes && at + i < end; ++i) of_b[at + i] = {values[i], int32_t(row[i])};
    }
}

void near_block(const NearJob& job, int64_t begin, int64_t end, Best* of_a, Best* of_b) {
  const auto cell = [&](float position, float origin, int cells) {
    return int(std::clamp(std::floor((position - origin) / job.side), 0.f, float(cells - 1)));
  };
  int32_t found[kNearBatch + 3];
  for (int64_t at = begin; at < end; ++at) {
    const float x = job.xy_b[2 * at], y = job.xy_b[2 * at + 1];
    const float* descriptor = job.b + job.index_b[at] * job.channels;
    Best best = {kNone, 0};
    const auto compare = [&](int count) {
      for (int i = 0; i < 3; ++i) found[count + i] = found[0];  // compared again: it is no better
      for (int i = 0; i < count; i += 4) {
        const float* a[4];
        float similar[4];
        for (int k = 0; k < 4; ++k) a[k] = job.a + found[i + k] * job.channels;
        products(a, descriptor, job.channels, similar);
        for (int k = 0; k < 4; ++k) {
          const bool first = similar[k] == best.value && similar[k] > kNone &&
                             job.order[found[i + k]] < job.order[best.index];
          if (similar[k] > best.value || first) best = {similar[k], found[i + k]};
          if (similar[k] > of_a[found[i + k]].value) of_a[found[i + k]] = {similar[k], int32_t(at)};
        }
      }
    };
    // Behind the camera, a point may be anywhere.
    const bool near = std::abs(x) < kFarthest && std::abs(y) < kFarthest;
    const int left = near ? cell(x - job.radius, job.origin_x, job.across) : 0;
    const int right = near ? cell(x + job.radius, job.origin_x, job.across) : -1;
    const int top = near ? cell(y - job.radius, job.origin_y, job.down) : 0;
    const int bottom = near ? cell(y + job.radius, job.origin_y, job.down) : -1;
    int count = 0;
    for (int row = top; row <= bottom; ++row) {
      const int32_t last = job.first[row * job.across + right + 1];
      for (int32_t i = job.first[row * job.across + left]; i < last;) {
        const int32_t stop = std::min(last, i + kNearBatch - count);
        count += pick_near(job, i, stop, x, y, found + count);
        i = stop;
        if (count == kNearBatch) compare(count), count = 0;
      }
    }
    if (count > 0) compare(count);
    of_b[at] = best;
  }
}

}  // namespace SPLAT_ISA
}  // namespace splat

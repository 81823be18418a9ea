// Nearest neighbours among descriptors: inner products of all pairs, or of those that are near in an image,
// of which only the maxima are kept.
#pragma once

#include <cstdint>

namespace splat {

// The highest inner product of a row with any row of the other side, and that row; of equal ones the first.
struct Best {
  float value;
  int32_t index;  // 0 where there is none
};

struct NearestJob {
  const float* a;  // [rows, channels]
  const float* b;  // [columns, channels]
  int64_t rows, columns, channels;
};

constexpr int64_t kNearestChunk = 256;  // rows of b per work item; a multiple of every panel's width

// Compares all of `a` with rows [begin, end) of b: of_a [rows] are the best of these, of_b [columns] those at
// [begin, end). `panels` is scratch memory for kNearestChunk x channels numbers.
using NearestKernel = void (*)(const NearestJob&, int64_t begin, int64_t end, float* panels, Best* of_a,
                               Best* of_b);

// Points of `a` lie in the cells of a grid, row by row; `first` [cells + 1] is the first point of each cell.
struct NearJob {
  const float* xy_a;       // [rows, 2], sorted by cell, as `a` is
  const float* xy_b;       // [columns, 2]
  const float* a;          // [rows, channels]
  const float* b;          // [*, channels]
  const int64_t* order;    // [rows] number of each point of `a` before it was sorted
  const int64_t* index_b;  // [columns] row in b of each
  int64_t rows, columns, channels;
  const int32_t* first;
  int across, down;  // cells
  float origin_x, origin_y, side, radius;
};

constexpr int64_t kNearChunk = 1024;  // points of b per work item

// Compares points [begin, end) of b with the points of a within `radius`: of_b [columns] are the best of
// these, of_a [rows] the best among [begin, end); -infinity on entry.
using NearKernel = void (*)(const NearJob&, int64_t begin, int64_t end, Best* of_a, Best* of_b);

// Fill of_a [rows] and of_b [columns], which do not depend on the number of threads.
void nearest(const NearestJob& job, int threads, Best* of_a, Best* of_b);
void nearest_within(const NearJob& job, int threads, Best* of_a, Best* of_b);

}  // namespace splat

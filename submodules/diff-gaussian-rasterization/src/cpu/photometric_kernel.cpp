// The photometric loss and its gradient over one tile. Compiled once per instruction set.
//
// Rows stream through two filters. Copies of the images' rows enter a ring; each filtering takes kRows rows
// more of it, first along columns, then along rows, into the window's means, hence the similarity and its
// three derivatives; these enter a second ring and are filtered the same way into the gradient. A tile thus
// reads 10 rows and columns beyond each of its sides.
#include <algorithm>
#include <cstring>

#include "partial.h"
#include "training_kernels.h"
#include "splat/ssim.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

constexpr int kRows = 2;                      // filtered together, so that each row is read less often
constexpr int kSpan = kRows + 2 * kSsimHalf;  // rows that reach them
constexpr int kRing = 16;                     // rows kept, a power of two
constexpr int kMargin = 4 * kSsimHalf;        // columns of both filters, both sides
constexpr int kMeans = 4, kDerivatives = 3;   // planes: SsimMeans, Ssim
constexpr int kLag = (kSpan + kRows - 1) / kRows - 1;  // steps that the second filter is behind the first
static_assert(kSpan <= kRing && (kRing & (kRing - 1)) == 0);

template <class T>
struct Scratch {
  int pitch;       // numbers of a row: the tile's columns, the margin, and vectors beyond
  T* images;       // [kRing, 2, pitch]; their first column is 2 kSsimHalf before the tile's
  T* derivatives;  // [kRing, kDerivatives, pitch]; theirs kSsimHalf before
  T* filtered;     // [kRows, kMeans, pitch]: filtered along columns only
  T* similarity;   // [pitch], as the derivatives

  SPLAT_LANE T* image(int row, int plane) const { return images + ((row & (kRing - 1)) * 2 + plane) * pitch; }
  SPLAT_LANE T* derivative(int row, int plane) const {
    return derivatives + ((row & (kRing - 1)) * kDerivatives + plane) * pitch;
  }
  SPLAT_LANE T* partial(int row, int plane) const { return filtered + (row * kMeans + plane) * pitch; }
};

// A tile and the rows of it by their number in the rings: row 0 of the images is first_row - 2 kSsimHalf, row
// 0 of the derivatives first_row - kSsimHalf.
template <class T>
struct Pass {
  PhotometricJob<T> job;
  PhotometricTile tile;
  Scratch<T> scratch;
  int columns;  // of the tile
  PhotometricSums sums;
};

// The part [begin, end) of a row of pixels [first, first + size) that lies within an image of `width`.
struct Inside {
  int begin, end;
};
Inside inside(int first, int size, int width) {
  const int begin = std::clamp(-first, 0, size);
  return {begin, std::clamp(width - first, begin, size)};
}

// Row `row` of the ring: the images' pixels, zeros outside of them.
template <class T>
void copy_row(Pass<T>& pass, int row) {
  const PhotometricJob<T>& job = pass.job;
  const int y = pass.tile.first_row - 2 * kSsimHalf + row, x = pass.tile.first_column - 2 * kSsimHalf;
  const Inside part = inside(x, pass.columns + kMargin, job.width);
  const int64_t offset = (int64_t(pass.tile.channel) * job.height + y) * job.width + x;
  const T* const from[] = {job.rendered + offset, job.target + offset};
  for (int plane = 0; plane < 2; ++plane) {
    T* to = pass.scratch.image(row, plane);
    if (y < 0 || y >= job.height) {
      std::memset(to, 0, sizeof(T) * pass.scratch.pitch);
      continue;
    }
    std::memset(to, 0, sizeof(T) * part.begin);
    std::memcpy(to + part.begin, from[plane] + part.begin, sizeof(T) * (part.end - part.begin));
    std::memset(to + part.end, 0, sizeof(T) * (pass.scratch.pitch - part.end));
  }
}

// Adds row `t` of those in reach to the means of the rows that it reaches.
template <int Planes, class T>
SPLAT_LANE void add_row(int t, const Vec<T> (&values)[Planes], Vec<T> (&sums)[kRows][Planes]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    if (t < r || t - r >= kSsimTaps) continue;
    const Vec<T> weight(ssim_weight<T>(t - r));
#pragma GCC unroll 8
    for (int p = 0; p < Planes; ++p) sums[r][p] = sums[r][p] + weight * values[p];
  }
}

template <int Planes, class T>
SPLAT_LANE void store_rows(const Scratch<T>& scratch, int column, const Vec<T> (&sums)[kRows][Planes]) {
  for (int r = 0; r < kRows; ++r)
    for (int p = 0; p < Planes; ++p) sums[r][p].store(scratch.partial(r, p) + column);
}

// Along columns: from rows [row, row + kSpan) of the images to `partial`.
template <class T>
void filter_image_columns(const Pass<T>& pass, int row) {
  using V = Vec<T>;
  const Scratch<T>& scratch = pass.scratch;
  const T *x[kSpan], *y[kSpan];
  for (int t = 0; t < kSpan; ++t) x[t] = scratch.image(row + t, 0), y[t] = scratch.image(row + t, 1);
  for (int column = 0; column < pass.columns + kMargin; column += V::kCount) {
    V sums[kRows][kMeans];
    for (auto& of_row : sums)
      for (V& each : of_row) each = V(T(0));
#pragma GCC unroll 16
    for (int t = 0; t < kSpan; ++t) {
      const V a = V::load(x[t] + column), b = V::load(y[t] + column);
      const V values[kMeans] = {a, b, a * a + b * b, a * b};
      add_row(t, values, sums);
    }
    store_rows(scratch, column, sums);
  }
}

template <class T>
void filter_derivative_columns(const Pass<T>& pass, int row) {
  using V = Vec<T>;
  const Scratch<T>& scratch = pass.scratch;
  const T* from[kSpan];
  for (int t = 0; t < kSpan; ++t) from[t] = scratch.derivative(row + t, 0);
  for (int column = 0; column < pass.columns + 2 * kSsimHalf; column += V::kCount) {
    V sums[kRows][kDerivatives];
    for (auto& of_row : sums)
      for (V& each : of_row) each = V(T(0));
#pragma GCC unroll 16
    for (int t = 0; t < kSpan; ++t) {
      V values[kDerivatives];
      for (int p = 0; p < kDerivatives; ++p) values[p] = V::load(from[t] + p * scratch.pitch + column);
      add_row(t, values, sums);
    }
    store_rows(scratch, column, sums);
  }
}

// Along a row: the window's mean around column + kSsimHalf.
template <class T>
SPLAT_LANE Vec<T> filter_row(const T* row, int column) {
  Vec<T> sum = Vec<T>(ssim_weight<T>(0)) * Vec<T>::load(row + column);
#pragma GCC unroll 16
  for (int t = 1; t < kSsimTaps; ++t) sum = sum + Vec<T>(ssim_weight<T>(t)) * Vec<T>::load(row + column + t);
  return sum;
}

template <class T>
double sum_of(const T* numbers, int count) {
  Vec<T> sums(T(0));
  for (int i = 0; i < count; i += Vec<T>::kCount) sums = sums + load_first(numbers + i, count - i);
  return double(sum(sums));
}

// The similarity and its derivatives at row `row` of their ring, from row `r` of the partly filtered means.
template <class T>
void compare_row(Pass<T>& pass, int r, int row) {
  using V = Vec<T>;
  const Scratch<T>& scratch = pass.scratch;
  const int y = pass.tile.first_row - kSsimHalf + row, size = pass.columns + 2 * kSsimHalf;
  T* const out[] = {scratch.derivative(row, 0), scratch.derivative(row, 1), scratch.derivative(row, 2)};
  if (y < 0 || y >= pass.job.height) {
    std::memset(out[0], 0, sizeof(T) * kDerivatives * scratch.pitch);
    return;
  }
  const T* const means[] = {scratch.partial(r, 0), scratch.partial(r, 1), scratch.partial(r, 2),
                            scratch.partial(r, 3)};
  for (int column = 0; column < size; column += V::kCount) {
    const Ssim<V> at = ssim<V, T>({filter_row(means[0], column), filter_row(means[1], column),
                                   filter_row(means[2], column), filter_row(means[3], column)});
    at.value.store(scratch.similarity + column);
    at.by_x.store(out[0] + column);
    at.twice_by_squares.store(out[1] + column);
    at.by_product.store(out[2] + column);
  }
  if (y >= pass.tile.first_row && y < pass.tile.last_row)
    pass.sums.similarity += sum_of(scratch.similarity + kSsimHalf, pass.columns);
  const Inside part = inside(pass.tile.first_column - kSsimHalf, size, pass.job.width);
  for (T* plane : out) {
    std::memset(plane, 0, sizeof(T) * part.begin);
    std::memset(plane + part.end, 0, sizeof(T) * (scratch.pitch - part.end));
  }
}

// Row `y` of the image: the differences and, from row `r` of the partly filtered derivatives, the gradient.
template <class T>
void finish_row(Pass<T>& pass, int r, int y) {
  using V = Vec<T>;
  const PhotometricJob<T>& job = pass.job;
  const T* const planes[] = {pass.scratch.partial(r, 0), pass.scratch.partial(r, 1),
                             pass.scratch.partial(r, 2)};
  const int64_t offset = (int64_t(pass.tile.channel) * job.height + y) * job.width + pass.tile.first_column;
  const V zero(T(0)), weight(job.difference_weight), similarity_weight(job.similarity_weight);
  V differences = zero;
  for (int column = 0; column < pass.columns; column += V::kCount) {
    const int count = pass.columns - column;
    const V a = load_first(job.rendered + offset + column, count);
    const V b = load_first(job.target + offset + column, count);
    const V difference = a - b;
    differences = differences + maximum(difference, -difference);
    if (!job.gradient) continue;
    const V sign = select(difference > zero, weight, select(difference < zero, -weight, zero));
    const V similarity =
        filter_row(planes[0], column) + a * filter_row(planes[1], column) + b * filter_row(planes[2], column);
    store_first(job.gradient + offset + column, sign + similarity_weight * similarity, count);
  }
  pass.sums.difference += double(sum(differences));
}

// Numbers of a row: the filters run over whole vectors.
int pitch_of(int columns) {
  constexpr int kLanes = Lanes<float>::kCount;
  return (columns + kMargin + 2 * kLanes - 1) / kLanes * kLanes;
}

template <class T>
Scratch<T> scratch_of(T* memory, int columns) {
  Scratch<T> scratch;
  scratch.pitch = pitch_of(columns);
  scratch.images = memory;
  scratch.derivatives = scratch.images + kRing * 2 * scratch.pitch;
  scratch.filtered = scratch.derivatives + kRing * kDerivatives * scratch.pitch;
  scratch.similarity = scratch.filtered + kRows * kMeans * scratch.pitch;
  return scratch;
}

template <class T>
PhotometricSums photometric(const PhotometricJob<T>& job, const PhotometricTile& tile, T* memory) {
  const int columns = tile.last_column - tile.first_column, rows = tile.last_row - tile.first_row;
  Pass<T> pass{job, tile, scratch_of(memory, columns), columns, {}};
  const int steps = (rows + kRows - 1) / kRows;
  for (int row = 0; row < kSpan - kRows; ++row) copy_row(pass, row);
  for (int step = 0; step < steps + kLag; ++step) {
    for (int r = 0; r < kRows; ++r) copy_row(pass, kSpan - kRows + step * kRows + r);
    filter_image_columns(pass, step * kRows);
    for (int r = 0; r < kRows; ++r) compare_row(pass, r, step * kRows + r);
    if (step < kLag) continue;
    const int row = (step - kLag) * kRows;
    if (job.gradient) filter_derivative_columns(pass, row);
    for (int r = 0; r < kRows && row + r < rows; ++r) finish_row(pass, r, tile.first_row + row + r);
  }
  return pass.sums;
}

}  // namespace

int64_t photometric_scratch(int columns) {
  return int64_t(pitch_of(columns)) * (kRing * (2 + kDerivatives) + kRows * kMeans + 1);
}
PhotometricSums photometric_float(const PhotometricJob<float>& job, const PhotometricTile& tile,
                                  float* scratch) {
  return photometric(job, tile, scratch);
}
PhotometricSums photometric_double(const PhotometricJob<double>& job, const PhotometricTile& tile,
                                   double* scratch) {
  return photometric(job, tile, scratch);
}

}  // namespace SPLAT_ISA
}  // namespace splat

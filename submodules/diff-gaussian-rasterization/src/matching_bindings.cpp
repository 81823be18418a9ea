// Matching of descriptors, as Python calls it; types have been checked there.
#include "matching_bindings.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "argument_error.h"
#include "cpu/matching_kernel.h"

namespace nb = nanobind;

namespace {

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

constexpr size_t kMostRows = size_t(1) << 24;  // their numbers are exact in single precision

using splat::argument_error;
using splat::shape;

constexpr size_t kAny = size_t(-1);

// A table [rows, columns], either of which may be `kAny`.
void check_table(const char* name, const Array<const float>& array, size_t rows, size_t columns) {
  const auto size_text = [](size_t size) { return size == kAny ? "*" : std::to_string(size); };
  if (array.ndim() != 2 || (rows != kAny && array.shape(0) != rows) ||
      (columns != kAny && array.shape(1) != columns))
    throw argument_error(
        std::string(name) + " of shape [" + size_text(rows) + ", " + size_text(columns) + "]", shape(array),
        "give arrays that fit each other");
  if (array.shape(0) >= kMostRows)
    throw argument_error(std::string(name) + " with fewer than " + std::to_string(kMostRows) + " rows",
                         std::to_string(array.shape(0)), "match them in parts");
}

void check_some(const char* name, const Array<const float>& array) {
  if (array.size() == 0)
    throw argument_error(std::string(name) + " that is not empty", shape(array),
                         "match only where there are descriptors");
}

template <class T>
void check_column(const char* name, const Array<T>& array, size_t rows) {
  if (array.size() != rows)
    throw argument_error(std::string(name) + " of " + std::to_string(rows) + " numbers", shape(array),
                         "give one for each row");
}

// What Python gets of a `Best`.
struct Columns {
  float* value;
  int64_t* index;
};

Columns columns(const Array<float>& value, const Array<int64_t>& index, size_t size) {
  check_column("similarities", value, size);
  check_column("indices", index, size);
  return {value.data(), index.data()};
}

void write(const std::vector<splat::Best>& best, Columns out) {
  for (size_t i = 0; i < best.size(); ++i) out.value[i] = best[i].value, out.index[i] = best[i].index;
}

void nearest(Array<const float> a, Array<const float> b, Array<float> value_a, Array<int64_t> index_a,
             Array<float> value_b, Array<int64_t> index_b, int threads) {
  check_table("a", a, kAny, kAny);
  check_table("b", b, kAny, a.shape(1));
  check_some("a", a);
  check_some("b", b);
  const Columns out_a = columns(value_a, index_a, a.shape(0)), out_b = columns(value_b, index_b, b.shape(0));
  const splat::NearestJob job = {a.data(), b.data(), int64_t(a.shape(0)), int64_t(b.shape(0)),
                                 int64_t(a.shape(1))};
  nb::gil_scoped_release release;
  std::vector<splat::Best> of_a(job.rows), of_b(job.columns);
  splat::nearest(job, threads, of_a.data(), of_b.data());
  write(of_a, out_a);
  write(of_b, out_b);
}

// Points of `a` sorted into square cells, with the descriptors in the same order.
struct Sorted {
  std::vector<int64_t> order;
  std::vector<float> xy, descriptors;
  std::vector<int32_t> first;  // [cells + 1]
  int across, down;
  float origin_x, origin_y, side;
};

constexpr int kMostCells = 256;  // on a side: points far apart have larger cells

Sorted sorted(const float* xy, const float* descriptors, int64_t rows, int64_t channels, float radius) {
  Sorted s;
  float low[2] = {xy[0], xy[1]}, high[2] = {xy[0], xy[1]};
  for (int64_t i = 0; i < 2 * rows; ++i) {
    if (!std::isfinite(xy[i]))
      throw argument_error("finite points", splat::text(xy[i]) + " in row " + std::to_string(i / 2),
                           "leave out that point");
    low[i % 2] = std::min(low[i % 2], xy[i]);
    high[i % 2] = std::max(high[i % 2], xy[i]);
  }
  const float extent = std::max(high[0] - low[0], high[1] - low[1]);
  if (!std::isfinite(extent))
    throw argument_error("points of one image",
                         "points from (" + splat::text(low[0]) + ", " + splat::text(low[1]) + ") to (" +
                             splat::text(high[0]) + ", " + splat::text(high[1]) + ")",
                         "leave out what lies far outside the image");
  s.side = std::max({radius / 2, extent / kMostCells, std::numeric_limits<float>::min()});
  s.origin_x = low[0], s.origin_y = low[1];
  s.across = std::min(kMostCells, int((high[0] - low[0]) / s.side)) + 1;
  s.down = std::min(kMostCells, int((high[1] - low[1]) / s.side)) + 1;
  const auto cell = [&](int64_t i) {
    const int column = std::min(s.across - 1, int((xy[2 * i] - s.origin_x) / s.side));
    return std::min(s.down - 1, int((xy[2 * i + 1] - s.origin_y) / s.side)) * s.across + column;
  };
  s.first.assign(s.across * s.down + 1, 0);
  for (int64_t i = 0; i < rows; ++i) ++s.first[cell(i) + 1];
  for (size_t c = 1; c < s.first.size(); ++c) s.first[c] += s.first[c - 1];
  std::vector<int32_t> next(s.first.begin(), s.first.end() - 1);
  s.order.resize(rows);
  for (int64_t i = 0; i < rows; ++i) s.order[next[cell(i)]++] = i;
  s.xy.resize(2 * rows);
  s.descriptors.resize(rows * channels);
  for (int64_t k = 0; k < rows; ++k) {
    std::copy_n(xy + 2 * s.order[k], 2, s.xy.data() + 2 * k);
    std::copy_n(descriptors + s.order[k] * channels, channels, s.descriptors.data() + k * channels);
  }
  return s;
}

void nearest_within(Array<const float> xy_a, Array<const float> a, Array<const float> xy_b,
                    Array<const float> b, Array<const int64_t> rows_b, float radius, Array<float> value_a,
                    Array<int64_t> index_a, Array<float> value_b, Array<int64_t> index_b, int threads) {
  check_table("a", a, kAny, kAny);
  check_table("b", b, kAny, a.shape(1));
  check_table("xy_a", xy_a, a.shape(0), 2);
  check_table("xy_b", xy_b, kAny, 2);
  check_column("rows_b", rows_b, xy_b.shape(0));
  check_some("a", a);
  if (!(std::isfinite(radius) && radius > 0))
    throw argument_error("a finite radius above 0", splat::text(radius), "give it in pixels");
  const int64_t rows = int64_t(a.shape(0)), count = int64_t(xy_b.shape(0)), channels = int64_t(a.shape(1));
  const Columns out_a = columns(value_a, index_a, rows), out_b = columns(value_b, index_b, count);
  for (int64_t k = 0; k < count; ++k)
    if (rows_b.data()[k] < 0 || rows_b.data()[k] >= int64_t(b.shape(0)))
      throw argument_error("rows_b from 0 to " + std::to_string(int64_t(b.shape(0)) - 1),
                           std::to_string(rows_b.data()[k]), "give rows of b");
  nb::gil_scoped_release release;
  const Sorted s = sorted(xy_a.data(), a.data(), rows, channels, radius);
  const splat::NearJob job = {
      s.xy.data(), xy_b.data(), s.descriptors.data(), b.data(), s.order.data(), rows_b.data(), rows,
      count,       channels,    s.first.data(),       s.across, s.down,         s.origin_x,    s.origin_y,
      s.side,      radius};
  std::vector<splat::Best> of_a(rows), of_b(count);
  splat::nearest_within(job, threads, of_a.data(), of_b.data());
  for (int64_t k = 0; k < rows; ++k) {
    out_a.value[s.order[k]] = of_a[k].value;
    out_a.index[s.order[k]] = of_a[k].index;
  }
  for (int64_t k = 0; k < count; ++k) {
    out_b.value[k] = of_b[k].value;
    out_b.index[k] = s.order[of_b[k].index];
  }
}

}  // namespace

namespace splat {

void bind_matching(nb::module_& m) {
  m.def("nearest", &::nearest, nb::arg("a"), nb::arg("b"), nb::arg("value_a"), nb::arg("index_a"),
        nb::arg("value_b"), nb::arg("index_b"), nb::arg("threads"),
        "For each row of a, and of b, the highest inner product with a row of the other, and that row.");
  m.def("nearest_within", &::nearest_within, nb::arg("xy_a"), nb::arg("a"), nb::arg("xy_b"), nb::arg("b"),
        nb::arg("rows_b"), nb::arg("radius"), nb::arg("value_a"), nb::arg("index_a"), nb::arg("value_b"),
        nb::arg("index_b"), nb::arg("threads"),
        "Likewise among points closer than `radius`; -infinity where there is none.");
}

}  // namespace splat

// Columns of arrays of rows, read and written for as many rows as a vector has lanes. With AVX-512 in single
// precision rows are transposed in registers; elsewhere numbers are moved one by one. The same values either
// way. Compiled once per instruction set.
#pragma once

#include "simd.h"

namespace splat {
namespace SPLAT_ISA {
namespace {

// Whether rows are transposed.
template <class T>
constexpr bool kTransposes = kVectorBytes == 64 && sizeof(T) == 4;

#if defined(__AVX512F__)
// 4 x 4 numbers in each quarter of the vectors: what is row k of a quarter becomes column k.
SPLAT_LANE void transpose_quarters(__m512* z) {
  const __m512 a = _mm512_unpacklo_ps(z[0], z[1]), b = _mm512_unpackhi_ps(z[0], z[1]);
  const __m512 c = _mm512_unpacklo_ps(z[2], z[3]), d = _mm512_unpackhi_ps(z[2], z[3]);
  const auto low = [](__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  const auto high = [](__m512 x, __m512 y) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
  };
  z[0] = low(a, c), z[1] = high(a, c), z[2] = low(b, d), z[3] = high(b, d);
}

// Four columns of 16 rows; row(i) is where those of row i are.
template <class Row>
SPLAT_LANE void load_quads_of(const Row& row, Vec<float>* columns) {
  __m512 z[4];
  for (int k = 0; k < 4; ++k) {
    z[k] = _mm512_castps128_ps512(_mm_loadu_ps(row(k)));
    z[k] = _mm512_insertf32x4(z[k], _mm_loadu_ps(row(k + 4)), 1);
    z[k] = _mm512_insertf32x4(z[k], _mm_loadu_ps(row(k + 8)), 2);
    z[k] = _mm512_insertf32x4(z[k], _mm_loadu_ps(row(k + 12)), 3);
  }
  transpose_quarters(z);
  for (int k = 0; k < 4; ++k) columns[k].v = (Vec<float>::Values)z[k];
}

// Likewise of rows that are `stride` numbers apart.
SPLAT_LANE void load_quads(const float* rows, int64_t stride, Vec<float>* columns) {
  load_quads_of([=](int i) { return rows + i * stride; }, columns);
}

SPLAT_LANE void store_quads(const Vec<float>* columns, float* rows, int64_t stride) {
  __m512 z[4];
  for (int k = 0; k < 4; ++k) z[k] = (__m512)columns[k].v;
  transpose_quarters(z);
  for (int k = 0; k < 4; ++k) {
    float* row = rows + k * stride;
    _mm_storeu_ps(row, _mm512_castps512_ps128(z[k]));
    _mm_storeu_ps(row + 4 * stride, _mm512_extractf32x4_ps(z[k], 1));
    _mm_storeu_ps(row + 8 * stride, _mm512_extractf32x4_ps(z[k], 2));
    _mm_storeu_ps(row + 12 * stride, _mm512_extractf32x4_ps(z[k], 3));
  }
}

// The places of numbers 16 k to 16 k + 15 of 16 rows of three: a lane of the first two columns, or of the
// third.
struct Rows {
  alignas(64) int32_t pair[3][16], third[3][16];
  uint16_t late[3];  // numbers of the third column
};

constexpr Rows rows_of_three() {
  Rows r{};
  for (int k = 0; k < 3; ++k)
    for (int i = 0; i < 16; ++i) {
      const int lane = (16 * k + i) / 3, column = (16 * k + i) % 3;
      if (column == 2) r.late[k] = uint16_t(r.late[k] | 1 << i);
      r.pair[k][i] = lane + 16 * (column == 1);
      r.third[k][i] = lane;
    }
  return r;
}
constexpr Rows kRowsOfThree = rows_of_three();

// Three columns into 16 rows of three.
SPLAT_LANE void store_triples(const Vec<float>* columns, float* rows) {
  for (int k = 0; k < 3; ++k) {
    const __m512i third = _mm512_load_si512(kRowsOfThree.third[k]);
    const __m512 pair = _mm512_permutex2var_ps((__m512)columns[0].v, _mm512_load_si512(kRowsOfThree.pair[k]),
                                               (__m512)columns[1].v);
    _mm512_storeu_ps(rows + 16 * k,
                     _mm512_mask_permutexvar_ps(pair, kRowsOfThree.late[k], third, (__m512)columns[2].v));
  }
}

// The places of column c among 48 numbers, 16 rows of three: those of the first 32, and of the last 16.
struct Triples {
  alignas(64) int32_t first[3][16], last[3][16];
  uint16_t late[3];  // lanes of the last 16
};

constexpr Triples triples() {
  Triples t{};
  for (int c = 0; c < 3; ++c)
    for (int l = 0; l < 16; ++l) {
      const int at = 3 * l + c;
      if (at >= 32) t.late[c] = uint16_t(t.late[c] | 1 << l);
      (at < 32 ? t.first : t.last)[c][l] = at % 32;
    }
  return t;
}
constexpr Triples kTriples = triples();

// Three columns of 16 rows of three.
SPLAT_LANE void load_triples(const float* rows, Vec<float>* columns) {
  const __m512 a = _mm512_loadu_ps(rows), b = _mm512_loadu_ps(rows + 16), c = _mm512_loadu_ps(rows + 32);
  for (int k = 0; k < 3; ++k) {
    const __m512 first = _mm512_permutex2var_ps(a, _mm512_load_si512(kTriples.first[k]), b);
    const __m512i last = _mm512_load_si512(kTriples.last[k]);
    columns[k].v = (Vec<float>::Values)_mm512_mask_permutexvar_ps(first, kTriples.late[k], last, c);
  }
}
#endif

// Reads columns of an array [N, stride] for the lanes' rows; the last one fills missing lanes.
template <class T>
struct LaneLoader {
  int64_t begin, last;

  SPLAT_LANE bool whole() const { return begin + Vec<T>::kCount - 1 <= last; }

  SPLAT_LANE Vec<T> operator()(const T* array, int stride, int column) const {
    if (stride == 1 && whole()) return Vec<T>::load(array + begin);
    T lanes[Vec<T>::kCount];
    for (int i = 0; i < Vec<T>::kCount; ++i) {
      const int64_t row = begin + i < last ? begin + i : last;
      lanes[i] = array[row * stride + column];
    }
    return Vec<T>::load(lanes);
  }

  // The first `count` columns.
  SPLAT_LANE void columns(const T* array, int stride, int count, Vec<T>* out) const {
    int column = 0;
#if defined(__AVX512F__)
    if constexpr (kTransposes<T>) {
      if (whole() && stride == 3 && count == 3) return load_triples(array + begin * 3, out);
      // Of a quad that reads beyond `count` only the wanted columns are kept; it stays within the row.
      for (; whole() && column < count && column + 4 <= stride; column += 4) {
        Vec<T> quad[4];
        load_quads(array + begin * stride + column, stride, quad);
        for (int k = 0; k < 4 && column + k < count; ++k) out[column + k] = quad[k];
      }
    }
#endif
    for (; column < count; ++column) out[column] = (*this)(array, stride, column);
  }
};

// Writes `count` columns of an array [N, stride] from row i on, for the lanes `seen`, none if it is null.
// Unseen lanes may be overwritten with zero; the array must be zero on entry.
template <class T>
SPLAT_LANE void store_columns(T* array, int stride, int count, int64_t i, int lanes, uint32_t seen,
                              const Vec<T>* values) {
  if (!array) return;
  int column = 0;
#if defined(__AVX512F__)
  if constexpr (kTransposes<T>) {
    const bool whole = lanes == Vec<T>::kCount;
    Vec<T> shown[4];
    const auto show = [&](int numbers) {
      for (int k = 0; k < numbers; ++k) shown[k] = select(Mask<T>{seen}, values[column + k], Vec<T>(T(0)));
    };
    if (whole && stride == 3 && count == 3) {
      show(3);
      return store_triples(shown, array + i * 3);
    }
    if (whole && stride == 1) {
      show(1);
      return shown[0].store(array + i);
    }
    for (; whole && column + 4 <= count; column += 4) {
      show(4);
      store_quads(shown, array + i * stride + column, stride);
    }
  }
#endif
  for (; column < count; ++column) {
    T lane[Vec<T>::kCount];
    values[column].store(lane);
    for (int l = 0; l < lanes; ++l)
      if (seen >> l & 1) array[(i + l) * stride + column] = lane[l];
  }
}

}  // namespace
}  // namespace SPLAT_ISA
}  // namespace splat

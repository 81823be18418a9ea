// A SIMD vector of N lanes on GCC/Clang vector extensions, so that one source serves every instruction set.
//
// A source that includes this is compiled once per instruction set with SPLAT_ISA naming it; everything here
// lives in a namespace of that name, so that the linker never mixes code of two sets.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "splat/math.h"

namespace splat {
namespace SPLAT_ISA {

#define SPLAT_LANE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct IntOf;
template <>
struct IntOf<float> {
  using type = int32_t;
};
template <>
struct IntOf<double> {
  using type = int64_t;
};

template <class T>
struct Lanes {
  static constexpr int kCount = kVectorBytes / int(sizeof(T));
  typedef T Values __attribute__((vector_size(kVectorBytes)));
  typedef typename IntOf<T>::type Ints __attribute__((vector_size(kVectorBytes)));
};

// Four numbers, whatever the vector.
template <class T>
struct QuadOf {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
  typedef typename IntOf<T>::type Ints __attribute__((vector_size(4 * sizeof(T))));
};

// Which lanes: a predicate register with AVX-512, all-ones integers elsewhere.
template <class T>
struct Mask {
#if defined(__AVX512F__)
  uint32_t m;
#else
  typename Lanes<T>::Ints m;
#endif
  friend SPLAT_LANE Mask operator&(Mask a, Mask b) { return {decltype(a.m)(a.m & b.m)}; }
  friend SPLAT_LANE Mask operator|(Mask a, Mask b) { return {decltype(a.m)(a.m | b.m)}; }
};

template <class T>
struct Vec {
  using Values = typename Lanes<T>::Values;
  using Ints = typename Lanes<T>::Ints;
  static constexpr int kCount = Lanes<T>::kCount;

  Values v;

  Vec() = default;
  SPLAT_LANE Vec(Values values) : v(values) {}
  template <class U>
    requires(__is_same(U, T) || __is_same(U, double) || __is_same(U, int))
  SPLAT_LANE Vec(U a) : v(T(a) - Values{}) {}  // a broadcast: `a - 0` is a, unlike `a + 0` when a is -0

  static SPLAT_LANE Vec load(const T* p) {
    Vec a;
    std::memcpy(&a.v, p, sizeof(Values));
    return a;
  }
  SPLAT_LANE void store(T* p) const { std::memcpy(p, &v, sizeof(Values)); }

  // The lane numbers 0, 1, 2, ...
  static SPLAT_LANE Vec indices() {
    Vec a;
    for (int i = 0; i < kCount; ++i) a.v[i] = T(i);
    return a;
  }

  friend SPLAT_LANE Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend SPLAT_LANE Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend SPLAT_LANE Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend SPLAT_LANE Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend SPLAT_LANE Vec operator-(Vec a) { return -a.v; }

#if defined(__AVX512F__)
#define SPLAT_COMPARE(OP, CODE)                                      \
  friend SPLAT_LANE Mask<T> operator OP(Vec a, Vec b) {              \
    if constexpr (sizeof(T) == 4)                                    \
      return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, CODE)};   \
    else                                                             \
      return {_mm512_cmp_pd_mask((__m512d)a.v, (__m512d)b.v, CODE)}; \
  }
#else
#define SPLAT_COMPARE(OP, CODE) \
  friend SPLAT_LANE Mask<T> operator OP(Vec a, Vec b) { return {a.v OP b.v}; }
#endif
  SPLAT_COMPARE(<, _CMP_LT_OQ)
  SPLAT_COMPARE(>, _CMP_GT_OQ)
  SPLAT_COMPARE(<=, _CMP_LE_OQ)
  SPLAT_COMPARE(>=, _CMP_GE_OQ)
  SPLAT_COMPARE(==, _CMP_EQ_OQ)
#undef SPLAT_COMPARE
};

template <class T>
SPLAT_LANE Mask<T> operator!(Mask<T> a) {
#if defined(__AVX512F__)
  return {a.m ^ ((1u << Vec<T>::kCount) - 1)};
#else
  return {~a.m};
#endif
}

template <class T>
SPLAT_LANE Vec<T> select(Mask<T> mask, Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (typename Vec<T>::Values)_mm512_mask_blend_ps(__mmask16(mask.m), (__m512)b.v, (__m512)a.v);
  else
    return (typename Vec<T>::Values)_mm512_mask_blend_pd(__mmask8(mask.m), (__m512d)b.v, (__m512d)a.v);
#else
  return mask.m ? a.v : b.v;
#endif
}

// One bit per lane.
template <class T>
SPLAT_LANE uint32_t bits(Mask<T> mask) {
#if defined(__AVX512F__)
  return mask.m;
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return uint32_t(_mm256_movemask_ps((__m256)mask.m));
  else
    return uint32_t(_mm256_movemask_pd((__m256d)mask.m));
#else
  uint32_t result = 0;
  for (int i = 0; i < Vec<T>::kCount; ++i) result |= uint32_t(mask.m[i] & 1) << i;
  return result;
#endif
}

template <class T>
SPLAT_LANE bool any(Mask<T> mask) {
  return bits(mask) != 0;
}

template <class T>
SPLAT_LANE Vec<T> minimum(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (typename Vec<T>::Values)_mm512_min_ps((__m512)a.v, (__m512)b.v);
  else
    return (typename Vec<T>::Values)_mm512_min_pd((__m512d)a.v, (__m512d)b.v);
#else
  return select(a < b, a, b);
#endif
}

template <class T>
SPLAT_LANE Vec<T> maximum(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (typename Vec<T>::Values)_mm512_max_ps((__m512)a.v, (__m512)b.v);
  else
    return (typename Vec<T>::Values)_mm512_max_pd((__m512d)a.v, (__m512d)b.v);
#else
  return select(a > b, a, b);
#endif
}

template <class T>
SPLAT_LANE Vec<T> square_root(Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (typename Vec<T>::Values)_mm512_sqrt_ps((__m512)a.v);
  else
    return (typename Vec<T>::Values)_mm512_sqrt_pd((__m512d)a.v);
#else
  for (int i = 0; i < Vec<T>::kCount; ++i) a.v[i] = splat::square_root(a.v[i]);
  return a;
#endif
}

// Of kVectorBytes / 4 numbers, writes those whose words have the bit set; what follows them in `out` is
// undefined. Returns how many it has written.
SPLAT_LANE int pick(const uint32_t* numbers, const uint32_t* words, uint32_t bit, uint32_t* out) {
#if defined(__AVX512F__)
  const __mmask16 found = _mm512_test_epi32_mask(_mm512_loadu_si512(words), _mm512_set1_epi32(int(bit)));
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(found, _mm512_loadu_si512(numbers)));
  return __builtin_popcount(found);
#else
  int count = 0;
  for (int i = 0; i < kVectorBytes / 4; ++i) {
    out[count] = numbers[i];
    count += (words[i] & bit) != 0;
  }
  return count;
#endif
}

// Halves a vector by adding its halves, down to 16 bytes.
typedef float Float4 __attribute__((vector_size(16)));
typedef float Float8 __attribute__((vector_size(32)));
typedef float Float16 __attribute__((vector_size(64)));
typedef double Double2 __attribute__((vector_size(16)));
typedef double Double4 __attribute__((vector_size(32)));
typedef double Double8 __attribute__((vector_size(64)));

SPLAT_LANE Float4 folded(Float4 a) { return a; }
SPLAT_LANE Double2 folded(Double2 a) { return a; }
#if defined(__AVX2__)
SPLAT_LANE Float4 folded(Float8 a) {
  return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
}
SPLAT_LANE Double2 folded(Double4 a) {
  return __builtin_shufflevector(a, a, 0, 1) + __builtin_shufflevector(a, a, 2, 3);
}
#endif
#if defined(__AVX512F__)
SPLAT_LANE Float4 folded(Float16 a) {
  return folded(Float8(__builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15)));
}
SPLAT_LANE Double2 folded(Double8 a) {
  return folded(
      Double4(__builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7)));
}
#endif

// The sums over the lanes of four vectors, transposed on the way: a fraction of the cost of four sums.
SPLAT_LANE void store_sums(const Vec<float>* v, float* out) {
  const Float4 a = folded(v[0].v), b = folded(v[1].v), c = folded(v[2].v), d = folded(v[3].v);
  const Float4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Float4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Float4 sums =
      __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  std::memcpy(out, &sums, sizeof(sums));
}

SPLAT_LANE void store_sums(const Vec<double>* v, double* out) {
  for (int k = 0; k < 4; k += 2) {
    const Double2 a = folded(v[k].v), b = folded(v[k + 1].v);
    const Double2 sums = __builtin_shufflevector(a, b, 0, 2) + __builtin_shufflevector(a, b, 1, 3);
    std::memcpy(out + k, &sums, sizeof(sums));
  }
}

SPLAT_LANE float sum(Vec<float> a) {
  const Float4 f = folded(a.v);
  return (f[0] + f[2]) + (f[1] + f[3]);
}

SPLAT_LANE double sum(Vec<double> a) {
  const Double2 f = folded(a.v);
  return f[0] + f[1];
}

// e^x for x <= 0, as 2^(n + f) with |f| <= 1/2: n goes into the exponent's bits, 2^f is a polynomial.
// Relative error 1e-7 in float (a fit of degree 5), 2e-16 in double (Taylor, degree 12). Below the range it
// is ~0.
SPLAT_LANE Vec<float> exponential(Vec<float> x) {
  using V = Vec<float>;
  const V t = maximum(x * V(1.44269504f), V(-126.f));
  const V shifted = t + V(12582912.f);  // 1.5 * 2^23: the integer part lands in the low bits
#if defined(__AVX512DQ__)
  const V f((V::Values)_mm512_reduce_ps((__m512)t.v, 0));  // the same number, sooner
#else
  const V f = t - (shifted - V(12582912.f));
#endif
  V p = V(0.00132765f);
  p = p * f + V(0.00967554f);
  p = p * f + V(0.05550713f);
  p = p * f + V(0.2402212f);
  p = p * f + V(0.69314697f);
  p = p * f + V(1.00000007f);
  V::Ints n;
  std::memcpy(&n, &shifted.v, sizeof(n));
  V::Ints y;
  std::memcpy(&y, &p.v, sizeof(y));
  y += n << 23;
  V result;
  std::memcpy(&result.v, &y, sizeof(y));
  return result;
}

SPLAT_LANE Vec<double> exponential(Vec<double> x) {
  using V = Vec<double>;
  const V t = maximum(x * V(1.4426950408889634), V(-1022.0));
  const V shifted = t + V(6755399441055744.0);  // 1.5 * 2^52
  const V f = (t - (shifted - V(6755399441055744.0))) * V(0.6931471805599453);
  V p = V(1.0 / 479001600);
  const double inverse_factorials[] = {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                       1.0 / 5040,     1.0 / 720,     1.0 / 120,    1.0 / 24,
                                       1.0 / 6,        0.5,           1.0,          1.0};
  for (const double c : inverse_factorials) p = p * f + V(c);
  V::Ints n;
  std::memcpy(&n, &shifted.v, sizeof(n));
  V::Ints y;
  std::memcpy(&y, &p.v, sizeof(y));
  y += n << 52;
  V result;
  std::memcpy(&result.v, &y, sizeof(y));
  return result;
}

// The natural logarithm of normal x > 0, as n ln 2 + ln m with m in [sqrt(1/2), sqrt(2)): n is the exponent,
// ln m a fit (Moshier, Cephes). Relative error 1e-7; of normal numbers.
SPLAT_LANE Vec<float> logarithm(Vec<float> x) {
  using V = Vec<float>;
  V::Ints bits;
  std::memcpy(&bits, &x.v, sizeof(bits));
  const V::Ints n = (bits - 0x3f3504f3) >> 23;
  bits -= n << 23;
  V f;
  std::memcpy(&f.v, &bits, sizeof(bits));
  f = f - V(1.f);
  V p = V(7.0376836292e-2f);
  for (const float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                        -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f, -0.5f, 1.f})
    p = p * f + V(c);
  return p * f + V(__builtin_convertvector(n, V::Values)) * V(0.69314718f);
}

SPLAT_LANE Vec<double> logarithm(Vec<double> x) {
  for (int i = 0; i < Vec<double>::kCount; ++i) x.v[i] = __builtin_log(x.v[i]);
  return x;
}

}  // namespace SPLAT_ISA
}  // namespace splat

// Some lanes of a vector. The first few, where a row or an array ends: memory beyond is not read or written.
#pragma once

#include "simd.h"

namespace splat {
namespace SPLAT_ISA {

// The first `count` lanes from memory, zeros in the others.
template <class T>
SPLAT_LANE Vec<T> load_first(const T* p, int count) {
  if (count >= Vec<T>::kCount) return Vec<T>::load(p);
#if defined(__AVX512F__)
  const uint32_t mask = (1u << count) - 1;
  if constexpr (sizeof(T) == 4)
    return (typename Vec<T>::Values)_mm512_maskz_loadu_ps(__mmask16(mask), p);
  else
    return (typename Vec<T>::Values)_mm512_maskz_loadu_pd(__mmask8(mask), p);
#else
  T lanes[Vec<T>::kCount] = {};
  for (int i = 0; i < count; ++i) lanes[i] = p[i];
  return Vec<T>::load(lanes);
#endif
}

template <class T>
SPLAT_LANE void store_first(T* p, Vec<T> values, int count) {
  if (count >= Vec<T>::kCount) return values.store(p);
#if defined(__AVX512F__)
  const uint32_t mask = (1u << count) - 1;
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, __mmask16(mask), (__m512)values.v);
  else
    _mm512_mask_storeu_pd(p, __mmask8(mask), (__m512d)values.v);
#else
  T lanes[Vec<T>::kCount];
  values.store(lanes);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
#endif
}

// One lane per bit.
template <class T>
SPLAT_LANE Mask<T> mask_of(uint32_t bits) {
#if defined(__AVX512F__)
  return {bits};
#else
  using Ints = typename Lanes<T>::Ints;
  Ints one{};
  for (int i = 0; i < Vec<T>::kCount; ++i) one[i] = 1 << i;
  return {((Ints{} + int32_t(bits)) & one) != 0};
#endif
}

}  // namespace SPLAT_ISA
}  // namespace splat

// Selection, arithmetic and small vectors, shared by the CPU and the CUDA code.
//
// Functions here and in the other headers of this folder are templated on S, "the scalar": float or double
// for one Gaussian (or pixel) per thread, or a SIMD vector for several at once. They are therefore free of
// branches on values: choices go through select().
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define SPLAT_HD __host__ __device__ __forceinline__
#else
#define SPLAT_HD inline __attribute__((always_inline))
#endif

namespace splat {

SPLAT_HD float select(bool condition, float a, float b) { return condition ? a : b; }
SPLAT_HD double select(bool condition, double a, double b) { return condition ? a : b; }
SPLAT_HD float square_root(float a) { return sqrtf(a); }
SPLAT_HD double square_root(double a) { return ::sqrt(a); }

template <class S>
SPLAT_HD S maximum(S a, S b) {
  return select(a > b, a, b);
}
template <class S>
SPLAT_HD S minimum(S a, S b) {
  return select(a < b, a, b);
}

// -|a|
template <class S>
SPLAT_HD S negative(S a) {
  return minimum(a, -a);
}
SPLAT_HD float negative(float a) { return -fabsf(a); }

// A product that no compiler for GPUs fuses with a sum. What decides how many tiles a splat touches, or which
// splats a pixel blends, is evaluated in two kernels and must be rounded alike in both.
template <class S>
SPLAT_HD S product(S a, S b) {
  return a * b;
}
SPLAT_HD float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// A quotient to 2 ulp, for divisors of moderate size: a fraction of the instructions of an exact one on a
// GPU.
template <class S>
SPLAT_HD S quotient(S a, S b) {
  return a / b;
}
SPLAT_HD float quotient(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdividef(a, b);
#else
  return a / b;
#endif
}

template <class S>
struct Vec2 {
  S x, y;
};
template <class S>
struct Vec3 {
  S x, y, z;
};
template <class S>
struct Quaternion {
  S w, x, y, z;
};
// Symmetric matrices by their upper triangle. As a *gradient*, an off-diagonal entry is the derivative by the
// one number that stands for both entries of the matrix.
template <class S>
struct Sym2 {
  S xx, xy, yy;
};
template <class S>
struct Sym3 {
  S xx, xy, xz, yy, yz, zz;
};

template <class S>
SPLAT_HD S dot(const Vec3<S>& a, const Vec3<S>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

}  // namespace splat

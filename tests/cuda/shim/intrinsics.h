// The intrinsics that kernels use, by their CUDA names. Types that CUDA would refuse do not compile here
// either.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "executor.h"

namespace shim {

template <class T, class... Any>
concept OneOf = (std::is_same_v<T, Any> || ...);

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4, "shuffles move numbers of 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline int lane() { return int(threadIdx.x % 32); }

template <class T>
T shuffle(unsigned mask, T value, int source, Where where) {
  return from_bits<T>(warp_collective(Collective::kShuffle, mask, to_bits(value), source, where));
}

inline float fast_exp(float a) { return std::exp(a); }
inline float fast_log(float a) { return std::log(a); }
inline float fast_log2(float a) { return std::log2(a); }
inline float fast_pow(float a, float b) { return std::pow(a, b); }
inline float fast_sin(float a) { return std::sin(a); }
inline float fast_cos(float a) { return std::cos(a); }

// Replaces *at by value and returns what it was.
template <class T>
T exchange(T* at, T value) {
  const T old = *at;
  *at = value;
  return old;
}

}  // namespace shim

// --- collectives ---

inline void __syncthreads(shim::Where where = shim::Where::current()) {
  shim::block_collective(shim::Collective::kSyncthreads, 0, where);
}
inline int __syncthreads_count(int predicate, shim::Where where = shim::Where::current()) {
  return shim::block_collective(shim::Collective::kSyncthreadsCount, predicate, where);
}
inline int __syncthreads_and(int predicate, shim::Where where = shim::Where::current()) {
  return shim::block_collective(shim::Collective::kSyncthreadsAnd, predicate, where);
}
inline int __syncthreads_or(int predicate, shim::Where where = shim::Where::current()) {
  return shim::block_collective(shim::Collective::kSyncthreadsOr, predicate, where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, shim::Where where = shim::Where::current()) {
  shim::warp_collective(shim::Collective::kSyncwarp, mask, 0, 0, where);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              shim::Where where = shim::Where::current()) {
  const int segment = shim::lane() & ~(width - 1);
  return shim::shuffle(mask, value, segment | (source & (width - 1)), where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 shim::Where where = shim::Where::current()) {
  const int lane = shim::lane(), source = lane - int(delta);
  return shim::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   shim::Where where = shim::Where::current()) {
  const int lane = shim::lane(), source = lane + int(delta);
  return shim::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  shim::Where where = shim::Where::current()) {
  const int lane = shim::lane(), source = lane ^ lane_mask;
  return shim::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, shim::Where where = shim::Where::current()) {
  return unsigned(shim::warp_collective(shim::Collective::kBallot, mask, predicate != 0, 0, where));
}
inline int __all_sync(unsigned mask, int predicate, shim::Where where = shim::Where::current()) {
  return int(shim::warp_collective(shim::Collective::kAll, mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, shim::Where where = shim::Where::current()) {
  return int(shim::warp_collective(shim::Collective::kAny, mask, predicate != 0, 0, where));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, shim::Where where = shim::Where::current()) {
  return unsigned(shim::warp_collective(shim::Collective::kMatchAny, mask, shim::to_bits(value), 0, where));
}

// On hardware from sm_80 on only.
#define SHIM_REDUCE(NAME, KIND)                                                                      \
  template <shim::OneOf<int, unsigned> T>                                                            \
  T NAME(unsigned mask, T value, shim::Where where = shim::Where::current()) {                       \
    /* Signed numbers keep their order when their sign bit is flipped. */                            \
    constexpr uint32_t kFlip =                                                                       \
        std::is_signed_v<T> && (shim::Collective::KIND == shim::Collective::kReduceMin ||            \
                                shim::Collective::KIND == shim::Collective::kReduceMax)              \
            ? 0x80000000u                                                                            \
            : 0u;                                                                                    \
    const uint64_t bits = uint32_t(value) ^ kFlip;                                                   \
    return T(uint32_t(shim::warp_collective(shim::Collective::KIND, mask, bits, 0, where)) ^ kFlip); \
  }
SHIM_REDUCE(__reduce_add_sync, kReduceAdd)
SHIM_REDUCE(__reduce_min_sync, kReduceMin)
SHIM_REDUCE(__reduce_max_sync, kReduceMax)
SHIM_REDUCE(__reduce_or_sync, kReduceOr)
SHIM_REDUCE(__reduce_and_sync, kReduceAnd)
#undef SHIM_REDUCE

inline void __threadfence_block() {}
inline void __threadfence() {}

// Copies to shared memory that go on beside the kernel; here they land when they are waited for, so that
// no thread proceeds without waiting.
inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
  shim::copy_later(to, from, bytes, zeros);
}
inline void __pipeline_commit() { shim::commit_copies(); }
inline void __pipeline_wait_prior(size_t batches) { shim::finish_copies(batches); }

// --- atomics: one thread runs at a time, so plain arithmetic is atomic ---

template <shim::OneOf<int, unsigned, unsigned long long, float, double> T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, T(*at + value));
}
template <shim::OneOf<int, unsigned> T>
T atomicSub(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, T(*at - value));
}
template <shim::OneOf<int, unsigned, long long, unsigned long long> T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, value < *at ? value : *at);
}
template <shim::OneOf<int, unsigned, long long, unsigned long long> T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, value > *at ? value : *at);
}
template <shim::OneOf<int, unsigned, unsigned long long> T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, T(*at | value));
}
template <shim::OneOf<int, unsigned, unsigned long long> T>
T atomicAnd(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, T(*at & value));
}
template <shim::OneOf<int, unsigned, unsigned long long, float> T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, value);
}
template <shim::OneOf<int, unsigned, unsigned long long> T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  shim::yield();
  return shim::exchange(at, *at == expected ? value : *at);
}

// --- arithmetic. Some of the fast functions' names are taken by the C library, hence macros. ---

#define __expf ::shim::fast_exp
#define __logf ::shim::fast_log
#define __log2f ::shim::fast_log2
#define __powf ::shim::fast_pow
#define __sinf ::shim::fast_sin
#define __cosf ::shim::fast_cos

inline float rsqrtf(float a) { return 1.f / std::sqrt(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1.f) : 0.f; }  // NaN becomes 0
inline int __float2int_rd(float a) { return int(std::floor(a)); }
inline int __float2int_ru(float a) { return int(std::ceil(a)); }
inline int __float2int_rn(float a) { return int(std::nearbyint(a)); }
inline int __float2int_rz(float a) { return int(a); }

inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline int __popc(unsigned a) { return std::popcount(a); }
inline int __popcll(unsigned long long a) { return std::popcount(a); }
inline int __clz(int a) { return std::countl_zero(unsigned(a)); }
inline int __clzll(long long a) { return std::countl_zero((unsigned long long)a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }

template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
T __ldcg(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, std::type_identity_t<T> value) {
  *at = value;
}

// CUDA's min() and max() without std, on two numbers of one type.
template <class T>
  requires std::is_arithmetic_v<T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
  requires std::is_arithmetic_v<T>
T max(T a, T b) {
  return a < b ? b : a;
}

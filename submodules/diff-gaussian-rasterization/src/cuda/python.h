// How Python's objects reach CUDA code: device addresses and streams as integers, memory by a callback.
// DLPack would wait for streams; shapes, types and devices have been checked in Python.
#pragma once

#include <nanobind/nanobind.h>

#include "memory.h"
#include "platform.h"

namespace splat::cuda {

// None: null.
template <class T>
T* address(nanobind::handle value) {
  return value.is_none() ? nullptr : reinterpret_cast<T*>(nanobind::cast<uintptr_t>(value));
}

// Absent or None: null.
template <class T>
T* address(const nanobind::dict& arrays, const char* name) {
  return arrays.contains(name) ? address<T>(arrays[name]) : nullptr;
}

inline cudaStream_t stream_from(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

// `callback(bytes, kept) -> address` may be called without the GIL; it must outlive the result. `kept`: as
// long as the state of the pass.
inline Allocate allocate_by(const nanobind::callable& callback) {
  return [&callback](int64_t bytes, Lifetime lifetime) {
    nanobind::gil_scoped_acquire acquire;
    return address<void>(callback(bytes, lifetime == Lifetime::kState));
  };
}

}  // namespace splat::cuda

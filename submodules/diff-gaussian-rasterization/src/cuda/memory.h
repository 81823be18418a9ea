// Device memory, always the caller's: a callback to its allocator (torch's caching one), on its stream.
#pragma once

#include <cstdint>
#include <functional>

namespace splat::cuda {

// Returns `bytes` bytes, aligned to 256 or more, that stay valid as long as the state of the pass. Throws
// what the caller's allocator throws: out of memory is the caller's exception.
using Allocate = std::function<void*(int64_t bytes)>;

template <class T>
T* allocate(const Allocate& memory, int64_t count) {
  return count > 0 ? static_cast<T*>(memory(count * int64_t(sizeof(T)))) : nullptr;
}

}  // namespace splat::cuda

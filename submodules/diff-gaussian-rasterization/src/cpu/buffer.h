// Large arrays that are written before they are read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace splat {

// An uninitialised array of a plain type, aligned for every vector. Beyond what malloc keeps for reuse, pages
// are asked for in the largest size there is: faulting in 4 KiB pages can cost more than filling them.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : size_(size) {
    if (size == 0) return;
    const size_t bytes = size_t(size) * sizeof(T);
    const size_t alignment = bytes > kHuge ? kHugePage : std::max<size_t>(alignof(T), 64);
    T* data = static_cast<T*>(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
    if (!data) throw std::bad_alloc();
    data_.reset(data);
#if defined(__linux__)
    if (bytes > kHuge) madvise(data, bytes, MADV_HUGEPAGE);  // a refusal changes nothing but speed
#endif
  }

  T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kHuge = size_t(32) << 20, kHugePage = size_t(2) << 20;
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

}  // namespace splat

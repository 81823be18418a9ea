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

constexpr size_t kHuge = size_t(32) << 20;  // bytes: malloc keeps smaller arrays for reuse
constexpr size_t kHugePage = size_t(2) << 20;

// Asks for huge pages for the parts of a large array that have not been written yet: faulting in 4 KiB pages
// can cost more than filling them.
inline void ask_for_huge_pages(void* data, size_t bytes) {
#if defined(__linux__)
  if (bytes <= kHuge) return;
  const uintptr_t begin = (uintptr_t(data) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (uintptr_t(data) + bytes) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a refusal changes nothing but speed
#else
  (void)data, (void)bytes;
#endif
}

// An uninitialised array of a plain type, aligned for every vector.
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
    ask_for_huge_pages(data, bytes);
  }

  T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

}  // namespace splat

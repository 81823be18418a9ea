// Device memory, always the caller's: a callback to its allocator (torch's caching one), on its stream. Each
// call costs microseconds of Python in which the GPU may have nothing to do: arrays share one block.
#pragma once

#include <cstdint>
#include <functional>

namespace splat::cuda {

// Scratch may be handed out again as soon as the call that asked for it has returned: later work of the same
// stream waits for its own. A state stays valid as long as the state of the pass.
enum class Lifetime { kScratch, kState };

// Returns `bytes` bytes, aligned to 256 or more. Throws what the caller's allocator throws: out of memory is
// the caller's exception.
using Allocate = std::function<void*(int64_t bytes, Lifetime lifetime)>;

// Hands out arrays one behind the other in one block. Without a block it only adds up how large that must be.
class Layout {
 public:
  explicit Layout(void* block) : block_(static_cast<char*>(block)) {}

  template <class T>
  T* array(int64_t count) {
    if (count == 0) return nullptr;
    char* const at = block_ ? block_ + bytes_ : nullptr;
    bytes_ += (count * int64_t(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(at);
  }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kAlignment = 256;
  char* block_;
  int64_t bytes_ = 0;
};

// Calls place(layout) twice, to measure and with one block of that size, and returns what it returned then.
template <class Place>
auto allocate(const Allocate& memory, Lifetime lifetime, const Place& place) {
  Layout size(nullptr);
  place(size);
  Layout arrays(size.bytes() ? memory(size.bytes(), lifetime) : nullptr);
  return place(arrays);
}

}  // namespace splat::cuda

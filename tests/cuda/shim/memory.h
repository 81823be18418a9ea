// "Device" memory for tests: NaN at first, with canaries around every block.
#pragma once

#include <cstdint>
#include <vector>

namespace shim {

class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Bytes of value 0xFF, aligned to 256; they live as long as this object.
  void* allocate(int64_t bytes);
  // Throws Error if something was written just before or behind a block.
  void check() const;
  // Fills all blocks with 0xFF again but those that hold one of the addresses: they must not be read any
  // more.
  void poison_except(const std::vector<uintptr_t>& addresses);
  int64_t total() const { return total_; }

  void* operator()(int64_t bytes) { return allocate(bytes); }

 private:
  struct Block {
    std::vector<unsigned char> storage;
    int64_t begin, bytes;  // of what was handed out
  };
  std::vector<Block> blocks_;
  int64_t total_ = 0;
};

}  // namespace shim

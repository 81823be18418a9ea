#include "memory.h"

#include <algorithm>
#include <string>

#include "executor.h"

namespace shim {
namespace {

constexpr int64_t kAlignment = 256, kGuard = 256;
constexpr unsigned char kPoison = 0xff, kCanary = 0xa5;

}  // namespace

void* Memory::allocate(int64_t bytes) {
  if (bytes <= 0)
    throw Error("expected to allocate a positive number of bytes, found " + std::to_string(bytes));
  Block block{std::vector<unsigned char>(size_t(bytes + 2 * kGuard + kAlignment), kCanary), 0, bytes};
  const auto address = reinterpret_cast<uintptr_t>(block.storage.data()) + kGuard;
  block.begin = kGuard + int64_t((kAlignment - address % kAlignment) % kAlignment);
  unsigned char* const handed_out = block.storage.data() + block.begin;
  std::memset(handed_out, kPoison, size_t(bytes));
  total_ += bytes;
  blocks_.push_back(std::move(block));  // moving a vector keeps its storage
  return handed_out;
}

void Memory::poison_except(const std::vector<uintptr_t>& addresses) {
  for (Block& block : blocks_) {
    unsigned char* const begin = block.storage.data() + block.begin;
    const auto inside = [&](uintptr_t address) {
      return address - reinterpret_cast<uintptr_t>(begin) < uintptr_t(block.bytes);
    };
    if (std::none_of(addresses.begin(), addresses.end(), inside))
      std::memset(begin, kPoison, size_t(block.bytes));
  }
}

void Memory::check() const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    for (int64_t k = 0; k < int64_t(block.storage.size()); ++k) {
      const int64_t offset = k - block.begin;
      if ((offset < 0 || offset >= block.bytes) && block.storage[size_t(k)] != kCanary)
        throw Error("allocation " + std::to_string(i) + " of " + std::to_string(block.bytes) +
                    " bytes: something was written at byte " + std::to_string(offset));
    }
  }
}

}  // namespace shim

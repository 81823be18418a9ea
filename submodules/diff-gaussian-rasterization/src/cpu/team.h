// Threads that share a loop. They are torch's where possible: its OpenMP runtime keeps threads spinning for a
// while after each of its operations, and threads of our own would share the cores with them.
#pragma once

#include <cstdint>
#include <functional>

namespace splat {

class Team {
 public:
  // At least one thread, and fewer than asked for where the system refuses to start them.
  explicit Team(int threads) : threads_(threads < 1 ? 1 : threads) {}

  int size() const { return threads_; }

  // Calls body(item, member) for every item in [0, items), handed out in order to the next free thread. What
  // is computed may depend on the item only; `member` in [0, size()) chooses scratch memory. Rethrows the
  // first exception of a body.
  void each(int64_t items, const std::function<void(int64_t item, int member)>& body) const;

 private:
  int threads_;
};

}  // namespace splat

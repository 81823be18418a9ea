// A team of threads that lives as long as one call: no global state, nothing to break across fork().
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace splat {

class Team {
 public:
  explicit Team(int threads);  // threads >= 1; has fewer where the system refuses to start more
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return int(workers_.size()) + 1; }

  // Calls body(item, member) for every item in [0, items), handed out in order to whoever is free. What is
  // computed may depend on the item only; `member` in [0, size()) chooses scratch memory. Rethrows the first
  // exception of a body.
  void each(int64_t items, const std::function<void(int64_t item, int member)>& body);

 private:
  void work(int member);
  void drain(int member);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, finish_;
  const std::function<void(int64_t, int)>* body_ = nullptr;
  int64_t items_ = 0, round_ = 0;
  int busy_ = 0;
  bool quit_ = false;
  std::atomic<int64_t> next_{0};
  std::exception_ptr error_;
};

}  // namespace splat

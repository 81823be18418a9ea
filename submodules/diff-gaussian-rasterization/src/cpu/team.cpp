#include "team.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "openmp.h"

namespace splat {
namespace {

struct Loop {
  int64_t items;
  const std::function<void(int64_t, int)>& body;
  std::atomic<int64_t> next{0};
  std::atomic<int> members{0};
  std::mutex mutex = {};
  std::exception_ptr error = {};  // the first

  static void join(void* loop) { static_cast<Loop*>(loop)->work(); }

  void work() noexcept {
    const int member = members.fetch_add(1);
    try {
      for (int64_t item; (item = next.fetch_add(1)) < items;) body(item, member);
    } catch (...) {
      next = items;
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }
};

// With threads of our own, which live as long as the loop: nothing to break across fork().
void run_alone(Loop& loop, int threads) {
  std::vector<std::thread> workers;
  workers.reserve(threads - 1);
  // Threads may run out; the calling thread and those that started do the work then.
  try {
    for (int left = threads - 1; left > 0; --left) workers.emplace_back(Loop::join, &loop);
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
  loop.work();
  for (std::thread& worker : workers) worker.join();
}

}  // namespace

void Team::each(int64_t items, const std::function<void(int64_t, int)>& body) const {
  Loop loop{items, body};
  const int threads = int(std::min<int64_t>(threads_, items));
  if (threads <= 1)
    loop.work();
  else if (!openmp_parallel(Loop::join, &loop, threads))
    run_alone(loop, threads);
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace splat

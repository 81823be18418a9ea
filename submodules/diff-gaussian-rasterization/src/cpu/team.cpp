#include "team.h"

#include <new>
#include <system_error>

namespace splat {

Team::Team(int threads) {
  workers_.reserve(threads - 1);
  // Threads may run out; the calling thread and those that started do the work then.
  try {
    for (int member = 1; member < threads; ++member) workers_.emplace_back([this, member] { work(member); });
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
}

Team::~Team() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Team::each(int64_t items, const std::function<void(int64_t, int)>& body) {
  {
    std::lock_guard lock(mutex_);
    body_ = &body;
    items_ = items;
    next_ = 0;
    error_ = nullptr;
    busy_ = int(workers_.size());
    ++round_;
  }
  start_.notify_all();
  drain(0);
  std::unique_lock lock(mutex_);
  finish_.wait(lock, [this] { return busy_ == 0; });
  if (error_) std::rethrow_exception(error_);
}

void Team::work(int member) {
  for (int64_t seen = 0;;) {
    std::unique_lock lock(mutex_);
    start_.wait(lock, [&] { return quit_ || round_ != seen; });
    if (quit_) return;
    seen = round_;
    lock.unlock();
    drain(member);
    lock.lock();
    if (--busy_ == 0) finish_.notify_one();
  }
}

void Team::drain(int member) {
  try {
    for (int64_t item; (item = next_.fetch_add(1)) < items_;) (*body_)(item, member);
  } catch (...) {
    next_ = items_;
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

}  // namespace splat

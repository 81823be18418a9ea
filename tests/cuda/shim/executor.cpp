#include "executor.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "collectives.h"

namespace shim {
namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kSharedGuard = 1024;
constexpr unsigned char kPoison = 0xff, kCanary = 0xa5;

struct Copy {
  void* to;
  const void* from;
  size_t bytes, zeros;
};

// A stack that runs thread after thread, block after block. ucontext starts it; setjmp changes to and from it
// without a system call.
struct Fiber {
  jmp_buf jump;
  ucontext_t start;
  void* stack = nullptr;
  bool running = false;  // has been started and can be jumped into
};

class Executor {
 public:
  void run(dim3 grid, int threads, size_t shared_bytes, const std::function<void()>& thread);
  uint64_t warp_collective(Collective what, unsigned mask, uint64_t value, int source, Where where);
  int block_collective(Collective what, int predicate, Where where);
  void* shared_memory(size_t bytes);
  void yield();
  std::deque<std::vector<Copy>>& copies() { return copies_[current_]; }

  const char* name = "";
  unsigned order = 0;

 private:
  void run_block(unsigned x, unsigned y, unsigned z);
  void wait();
  void leave();
  void fail(const std::string& message);
  void complete_warp(int thread);
  void complete_block();
  int pick();
  void change_to(int next);
  void enter(int next);
  void prepare(Fiber& fiber);
  [[noreturn]] static void fiber_main();
  std::string where_everyone_is() const;
  void make_ready(int t) {
    threads_[t].state = State::kReady;
    ready_[t / 64] |= uint64_t(1) << (t % 64);
  }
  void make_unready(int t, State state) {
    threads_[t].state = state;
    ready_[t / 64] &= ~(uint64_t(1) << (t % 64));
  }

  const std::function<void()>* body_ = nullptr;
  int count_ = 0, alive_count_ = 0, at_barrier_ = 0, current_ = -1;
  std::array<Thread, kMaxThreads> threads_;
  std::array<Fiber, kMaxThreads> fibers_;
  std::array<uint64_t, kMaxThreads / 64> ready_{};
  std::array<unsigned, kMaxThreads / kWarpSize> alive_{}, waiting_{};  // lanes, by warp
  // Batches of asynchronous copies, by thread; the last one is not committed yet.
  std::array<std::deque<std::vector<Copy>>, kMaxThreads> copies_;
  jmp_buf main_;
  std::exception_ptr failure_;
  alignas(128) unsigned char shared_[kMaxSharedBytes + kSharedGuard];
  size_t shared_bytes_ = 0;
  std::mt19937 random_;
};

Executor executor;
std::mutex one_launch_at_a_time;

void Executor::prepare(Fiber& fiber) {
  if (!fiber.stack) {
    const size_t guard = size_t(sysconf(_SC_PAGESIZE));
    fiber.stack = mmap(nullptr, kStackBytes + guard, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber.stack == MAP_FAILED) throw std::bad_alloc();
    mprotect(fiber.stack, guard, PROT_NONE);  // a stack that is too small crashes instead of corrupting
  }
  getcontext(&fiber.start);
  fiber.start.uc_stack = {fiber.stack, 0, kStackBytes};
  fiber.start.uc_stack.ss_sp = static_cast<char*>(fiber.stack) + size_t(sysconf(_SC_PAGESIZE));
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, &Executor::fiber_main, 0);
}

void Executor::fiber_main() {
  for (;;) {
    try {
      (*executor.body_)();
    } catch (...) {
      executor.failure_ = std::current_exception();
    }
    executor.leave();  // comes back for the next block
  }
}

// Jumps into a fiber, or back to run_block() for -1.
void Executor::enter(int next) {
  current_ = next;
  if (next < 0) _longjmp(main_, 1);
  threadIdx = {unsigned(next), 0, 0};
  Fiber& fiber = fibers_[next];
  if (fiber.running) _longjmp(fiber.jump, 1);
  fiber.running = true;
  setcontext(&fiber.start);
}

__attribute__((noinline)) void Executor::change_to(int next) {
  if (next == current_) return;
  if (_setjmp(fibers_[current_].jump) == 0) enter(next);
}

// The next thread to run, -1 where none is ready.
int Executor::pick() {
  const int words = (count_ + 63) / 64;
  if (order == 1) {
    const int from = current_ < 0 ? count_ - 1 : current_;
    for (int k = 0; k <= words; ++k) {
      const int w = ((from / 64 - k) % words + words) % words;
      uint64_t bits = ready_[w];
      if (k == 0) bits &= ~uint64_t(0) >> (63 - from % 64);
      if (bits) return 64 * w + 63 - std::countl_zero(bits);
    }
    return -1;
  }
  const int from = order == 0 ? std::max(current_, 0) : int(random_() % unsigned(count_));
  for (int k = 0; k <= words; ++k) {
    const int w = (from / 64 + k) % words;
    uint64_t bits = ready_[w];
    if (k == 0) bits &= ~uint64_t(0) << (from % 64);
    if (bits) return 64 * w + std::countr_zero(bits);
  }
  return -1;
}

// The caller has stopped being ready, or lets others go first.
void Executor::wait() {
  if (failure_) return change_to(-1);
  const int next = pick();
  if (next < 0) fail("deadlock: no thread can go on");
  change_to(failure_ ? -1 : next);
}

void Executor::fail(const std::string& message) {
  const std::string block = "(" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                            std::to_string(blockIdx.z) + ")";
  if (!failure_)
    failure_ = std::make_exception_ptr(
        Error(std::string(name) + ", block " + block + ": " + message + "; " + where_everyone_is()));
}

std::string Executor::where_everyone_is() const {
  std::vector<std::string> texts(static_cast<size_t>(count_));
  for (int t = 0; t < count_; ++t) {
    const Thread& thread = threads_[t];
    texts[size_t(t)] = thread.state == State::kDone ? "returned"
                       : thread.state == State::kReady
                           ? (t == current_ ? "running" : "ready")
                           : "at " + std::string(name_of(thread.what)) + " (" + text_of(thread.where) +
                                 (is_warp_wide(thread.what) ? ", mask " + hex(thread.mask) : "") + ")";
  }
  std::string all;
  for (int t = 0, begin = 0; t < count_; ++t) {
    if (t + 1 < count_ && texts[size_t(t) + 1] == texts[size_t(begin)]) continue;
    all += (all.empty() ? "threads " : ", ") + std::to_string(begin) +
           (t > begin ? "-" + std::to_string(t) : "") + " " + texts[size_t(begin)];
    begin = t + 1;
  }
  return all;
}

uint64_t Executor::warp_collective(Collective what, unsigned mask, uint64_t value, int source, Where where) {
  const int t = current_, warp = t / kWarpSize;
  const unsigned own = 1u << (t % kWarpSize);
  threads_[t] = {State::kReady, what, mask, source, value, 0, where};
  if (!(mask & own)) {
    fail(std::string(name_of(what)) + " (" + text_of(where) + "): lane " + std::to_string(t % kWarpSize) +
         " of warp " + std::to_string(warp) + " is not in its own mask " + hex(mask));
    change_to(-1);
  }
  make_unready(t, State::kWaiting);
  waiting_[warp] |= own;
  complete_warp(t);
  wait();
  return threads_[t].result;
}

// Lets the thread and its partners go on if they have all arrived.
void Executor::complete_warp(int thread) {
  const Thread& first = threads_[thread];
  const int warp = thread / kWarpSize, begin = warp * kWarpSize;
  const unsigned lanes = first.mask & alive_[warp];
  if ((waiting_[warp] & lanes) != lanes) return;
  for (unsigned rest = lanes; rest; rest &= rest - 1) {
    const Thread& other = threads_[begin + std::countr_zero(rest)];
    if (other.what != first.what || (other.mask & alive_[warp]) != lanes)
      return fail("the lanes of warp " + std::to_string(warp) + " are at different collectives");
  }
  for (unsigned rest = lanes; rest; rest &= rest - 1) {
    const int t = begin + std::countr_zero(rest);
    if (threads_[t].what == Collective::kShuffle && !(lanes >> threads_[t].source & 1))
      fail("a shuffle (" + text_of(threads_[t].where) + ") of thread " + std::to_string(t) + " reads lane " +
           std::to_string(threads_[t].source) + ", which takes no part in it");
    threads_[t].result = warp_result(&threads_[begin], t - begin, lanes);
  }
  if (failure_) return;
  waiting_[warp] &= ~lanes;
  for (unsigned rest = lanes; rest; rest &= rest - 1) make_ready(begin + std::countr_zero(rest));
}

int Executor::block_collective(Collective what, int predicate, Where where) {
  const int t = current_;
  threads_[t] = {State::kReady, what, 0, 0, uint64_t(predicate != 0), 0, where};
  make_unready(t, State::kWaiting);
  ++at_barrier_;
  complete_block();
  wait();
  return int(threads_[t].result);
}

void Executor::complete_block() {
  if (at_barrier_ == 0 || at_barrier_ < alive_count_) return;
  const Thread* first = nullptr;
  int set = 0;
  for (int t = 0; t < count_; ++t) {
    const Thread& thread = threads_[t];
    if (thread.state == State::kDone) continue;
    if (!first) first = &thread;
    if (thread.what != first->what || thread.where.line() != first->where.line() ||
        thread.where.column() != first->where.column())
      return fail("the threads are at different barriers");
    set += int(thread.value);
  }
  const int result = first->what == Collective::kSyncthreadsCount ? set
                     : first->what == Collective::kSyncthreadsAnd ? int(set == alive_count_)
                                                                  : int(set > 0);
  at_barrier_ = 0;
  for (int t = 0; t < count_; ++t) {
    if (threads_[t].state == State::kDone) continue;
    threads_[t].result = uint64_t(result);
    make_ready(t);
  }
}

// The thread has returned: those who wait for the others need not wait for it.
void Executor::leave() {
  const int t = current_, warp = t / kWarpSize;
  make_unready(t, State::kDone);
  --alive_count_;
  alive_[warp] &= ~(1u << (t % kWarpSize));
  for (unsigned left = waiting_[warp]; left && !failure_; left &= left - 1) {
    const int other = warp * kWarpSize + std::countr_zero(left);
    if (threads_[other].state == State::kWaiting) complete_warp(other);
  }
  if (!failure_) complete_block();
  if (alive_count_ == 0) return change_to(-1);
  wait();
}

void Executor::run_block(unsigned x, unsigned y, unsigned z) {
  blockIdx = {x, y, z};
  std::memset(shared_, kPoison, shared_bytes_);
  alive_count_ = count_;
  at_barrier_ = 0;
  alive_.fill(0);
  waiting_.fill(0);
  ready_.fill(0);
  for (int t = 0; t < count_; ++t) {
    make_ready(t);
    copies_[t].assign(1, {});
    alive_[t / kWarpSize] |= 1u << (t % kWarpSize);
  }
  current_ = -1;
  if (_setjmp(main_) == 0) enter(pick());
  for (size_t k = 0; k < kSharedGuard && !failure_; ++k)
    if (shared_[shared_bytes_ + k] != kCanary) fail("something was written behind the shared memory");
}

void Executor::run(dim3 grid, int threads, size_t shared_bytes, const std::function<void()>& thread) {
  body_ = &thread;
  count_ = threads;
  gridDim = grid;
  blockDim = dim3(unsigned(threads));
  shared_bytes_ = shared_bytes;
  std::memset(shared_ + shared_bytes, kCanary, kSharedGuard);
  failure_ = nullptr;
  random_.seed(order);
  for (int t = 0; t < threads; ++t)
    if (!fibers_[t].running) prepare(fibers_[t]);
  std::vector<int64_t> blocks(size_t(int64_t(grid.x) * grid.y * grid.z));
  std::iota(blocks.begin(), blocks.end(), 0);
  if (order == 1) std::reverse(blocks.begin(), blocks.end());
  if (order > 1) std::shuffle(blocks.begin(), blocks.end(), random_);
  for (const int64_t block : blocks) {
    run_block(unsigned(block % grid.x), unsigned(block / grid.x % grid.y), unsigned(block / grid.x / grid.y));
    if (!failure_) continue;
    // Their threads are somewhere inside the kernel: abandon the stacks and start anew next time.
    for (Fiber& fiber : fibers_) fiber.running = false;
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void* Executor::shared_memory(size_t bytes) {
  if (bytes > shared_bytes_)
    throw Error(std::string(name) + " uses " + std::to_string(bytes) +
                " bytes of shared memory, but was launched with " + std::to_string(shared_bytes_));
  return shared_;
}

void Executor::yield() {
  if (order > 1 && random_() % 8 == 0) wait();
}

}  // namespace

void set_order(unsigned order) { executor.order = order; }

cudaError_t check_launch(dim3 grid, int threads, size_t shared_bytes) {
  const bool fits =
      threads >= 1 && threads <= kMaxThreads && grid.x <= INT32_MAX && grid.y <= 65535 && grid.z <= 65535;
  cudaError_t status = fits ? cudaSuccess : cudaErrorInvalidConfiguration;
  if (shared_bytes > shared_limit) status = cudaErrorInvalidValue;
  if (status != cudaSuccess) last_error = status;
  return status;
}

void run(const char* name, dim3 grid, int threads, size_t shared_bytes, const std::function<void()>& thread) {
  const std::lock_guard lock(one_launch_at_a_time);
  ++statistics.launches;
  executor.name = name;
  executor.run(grid, threads, shared_bytes, thread);
}

uint64_t warp_collective(Collective what, unsigned mask, uint64_t value, int source, Where where) {
  return executor.warp_collective(what, mask, value, source, where);
}
int block_collective(Collective what, int predicate, Where where) {
  return executor.block_collective(what, predicate, where);
}
void* shared_memory(size_t bytes) { return executor.shared_memory(bytes); }
void yield() { executor.yield(); }

void copy_later(void* to, const void* from, size_t bytes, size_t zeros) {
  const auto misplaced = (reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes;
  if ((bytes != 4 && bytes != 8 && bytes != 16) || misplaced || zeros > bytes)
    throw Error("expected an asynchronous copy of 4, 8 or 16 bytes, aligned to its size");
  executor.copies().back().push_back({to, from, bytes, zeros});
}
void commit_copies() { executor.copies().emplace_back(); }
void finish_copies(size_t batches) {
  auto& copies = executor.copies();
  for (; copies.size() > batches + 1; copies.pop_front()) {
    for (const Copy& copy : copies.front()) {
      std::memcpy(copy.to, copy.from, copy.bytes - copy.zeros);
      std::memset(static_cast<char*>(copy.to) + copy.bytes - copy.zeros, 0, copy.zeros);
    }
  }
}

}  // namespace shim

// Runs one kernel launch on the CPU: every thread of a block is a fiber, blocks run one after another.
// Threads change at collectives only (and, in random order, at atomics), so that a kernel without its barrier
// reads poison or gives different results under different orders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>

#include "types.h"

namespace shim {

// A kernel broke the rules of CUDA: the message says which threads are where.
struct Error : std::logic_error {
  using std::logic_error::logic_error;
};

using Where = std::source_location;

enum class Collective {
  kSyncwarp,
  kShuffle,
  kBallot,
  kAll,
  kAny,
  kMatchAny,
  kReduceAdd,
  kReduceMin,
  kReduceMax,
  kReduceOr,
  kReduceAnd,
  kSyncthreads,
  kSyncthreadsCount,
  kSyncthreadsAnd,
  kSyncthreadsOr,
};

// 0: threads and blocks in order; 1: in reverse; from 2 on: a random order with that seed.
void set_order(unsigned order);

cudaError_t check_launch(dim3 grid, int threads, size_t shared_bytes);

// Throws Error, or what `thread` throws.
void run(const char* name, dim3 grid, int threads, size_t shared_bytes, const std::function<void()>& thread);

// --- called by the threads ---

// Waits for the lanes of `mask`; `source` is the lane that a shuffle reads. Returns the caller's result.
uint64_t warp_collective(Collective what, unsigned mask, uint64_t value, int source, Where where);
// Waits for all threads of the block that have not returned.
int block_collective(Collective what, int predicate, Where where);
void* shared_memory(size_t bytes);
// A place where another thread may go first.
void yield();
// Of the caller's own asynchronous copies: `zeros` of the bytes are cleared instead of read.
void copy_later(void* to, const void* from, size_t bytes, size_t zeros);
void commit_copies();
// Makes all batches but the last `batches` ones happen.
void finish_copies(size_t batches);

}  // namespace shim

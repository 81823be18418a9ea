// Collectives of a warp or a block: what a thread waits for, what it gets, and how both are called in
// messages.
#pragma once

#include <cstdint>
#include <string>

#include "executor.h"

namespace shim {

constexpr int kWarpSize = 32;

enum class State { kReady, kWaiting, kDone };

// One thread of the block that is running, and what it waits for.
struct Thread {
  State state;
  Collective what;
  unsigned mask;
  int source;
  uint64_t value, result;
  Where where;
};

inline bool is_warp_wide(Collective what) { return what < Collective::kSyncthreads; }
// The result of a lane of a warp whose `lanes` have all arrived at the same collective.
uint64_t warp_result(const Thread* warp, int lane, unsigned lanes);

const char* name_of(Collective what);
std::string text_of(const Where& where);
std::string hex(unsigned mask);

}  // namespace shim

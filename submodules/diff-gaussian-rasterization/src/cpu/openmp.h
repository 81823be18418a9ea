// The OpenMP runtime that is in the process already, torch's, borrowed without depending on it.
#pragma once

namespace splat {

// Calls body(data) in `threads` threads at once, this one included, and returns true; or returns false,
// nothing done, where there is no runtime to borrow or it is set to fewer threads. `body` must not throw.
bool openmp_parallel(void (*body)(void*), void* data, int threads);

}  // namespace splat

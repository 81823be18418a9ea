// The OpenMP runtime that torch has loaded into the process, used without linking against it.
#pragma once

namespace splat {

// Calls body(data) in up to `threads` threads at once, this one included, and returns true; or returns false,
// nothing done, where there is no runtime to borrow, it is set to fewer threads or the process was forked
// since it loaded this library. `body` must not throw, and must do with fewer threads: calls may be nested.
bool openmp_parallel(void (*body)(void*), void* data, int threads);

}  // namespace splat

#include "openmp.h"

#ifdef __unix__
#include <dlfcn.h>
#include <unistd.h>

namespace splat {
namespace {

// What compilers call for `#pragma omp parallel`; GNU's runtime has it, and so have LLVM's and Intel's.
using Parallel = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
using MaxThreads = int (*)();

template <class Function>
Function find(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

const pid_t kProcess = getpid();  // that loaded this library

}  // namespace

bool openmp_parallel(void (*body)(void*), void* data, int threads) {
  static const auto parallel = find<Parallel>("GOMP_parallel");
  static const auto max_threads = find<MaxThreads>("omp_get_max_threads");
  // After a fork the runtime's threads are gone, and it would wait for them for ever.
  if (!parallel || !max_threads || getpid() != kProcess) return false;
  // The runtime ends the process where the system refuses to start more threads.
  if (threads > max_threads()) return false;
  parallel(body, data, unsigned(threads), 0);
  return true;
}

}  // namespace splat
#else
bool splat::openmp_parallel(void (*)(void*), void*, int) { return false; }
#endif

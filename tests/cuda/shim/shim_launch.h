// platform.h's launch() and block_shared() on the shim; included where CUDA's stand.
#pragma once

namespace splat::cuda {

template <class T>
T& block_shared() {
  static_assert(alignof(T) <= 128);
  return *static_cast<T*>(shim::shared_memory(sizeof(T)));
}

template <class... Parameters, class... Arguments>
void launch(const Launch& at, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (at.grid.x == 0 || at.grid.y == 0 || at.grid.z == 0) return;
  check_earlier(at);
  check(shim::check_launch(at.grid, at.threads, at.shared_bytes), describe(at));
  shim::run(at.name, at.grid, at.threads, at.shared_bytes, [&] { kernel(Parameters(arguments)...); });
}

}  // namespace splat::cuda

// The number of the interface between this module, the Python package around it and the library. It changes
// with every change of a function, its arguments or its results; `interface.py` and the library expect it.
#pragma once

namespace splat {

constexpr int kInterface = 1;

}  // namespace splat

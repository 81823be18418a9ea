// What the tests ask of the shim itself, as functions of the Python module.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "executor.h"
#include "memory.h"

namespace shim {

inline void bind(nanobind::module_& m) {
  namespace nb = nanobind;
  nb::class_<Memory>(m, "Memory", "Device memory: NaN at first, with canaries around every block.")
      .def(nb::init<>())
      .def("__call__",
           [](Memory& memory, int64_t bytes) { return reinterpret_cast<uintptr_t>(memory.allocate(bytes)); })
      .def("check", &Memory::check, "Raises where something was written beside a block.")
      .def("poison_except", &Memory::poison_except, "Makes the blocks without these addresses NaN again.")
      .def_prop_ro("total", &Memory::total);
  m.def("set_order", &set_order, nb::arg("order"),
        "0: threads and blocks in order; 1: in reverse; from 2 on: a random order with that seed.");
  m.def(
      "set_shared_limit", [](size_t bytes) { shared_limit = bytes; }, nb::arg("bytes"),
      "The most shared memory of a block, 227 KB at first.");
  m.attr("SHARED_LIMIT") = kMaxSharedBytes;
  m.def("reset_statistics", [] { statistics = {}; });
  m.def("launches", [] { return statistics.launches; });
  m.def("synchronizations", [] { return statistics.synchronizations; });
}

}  // namespace shim

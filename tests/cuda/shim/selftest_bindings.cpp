// selftest.cu as a Python module; arrays arrive as addresses.
#include <nanobind/nanobind.h>

#include <bit>

#include "selftest.h"
#include "shim_bindings.h"

namespace nb = nanobind;

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

NB_MODULE(SPLAT_MODULE, m) {
  using namespace splat::cuda::selftest;
  shim::bind(m);
  m.def("sum_blocks", [](uintptr_t in, uintptr_t out, int64_t count, int threads, bool barrier) {
    run_sum_blocks(at<const float>(in), at<float>(out), count, threads, barrier);
  });
  m.def("warp_functions", [](uintptr_t out) { run_warp_functions(at<uint32_t>(out)); });
  m.def("half_warps", [](uintptr_t out) { run_half_warps(at<uint32_t>(out)); });
  m.def("histogram",
        [](uintptr_t in, int64_t count, int threads, uintptr_t bins, uintptr_t sum, uintptr_t largest) {
          run_histogram(at<const int32_t>(in), count, threads, at<int32_t>(bins), at<float>(sum),
                        at<uint32_t>(largest));
        });
  m.def("arrivals", [](uintptr_t next, uintptr_t out, int blocks, int threads) {
    run_arrivals(at<int32_t>(next), at<int32_t>(out), blocks, threads);
  });
  m.def("pipeline", [](uintptr_t in, uintptr_t out, bool wait) {
    run_pipeline(at<const float>(in), at<float>(out), wait);
  });
  m.def("multiply", [](uintptr_t a, uintptr_t b, uintptr_t d, bool full) {
    run_multiply(at<const float>(a), at<const float>(b), at<float>(d), full);
  });
  m.def("feature_values", [](uintptr_t features, uintptr_t gradients, uintptr_t out, int channels, int width,
                             int height, int left, int top, int count) {
    run_feature_values(
        {at<const float>(features), at<const float>(gradients), channels, width, height, left, top, count},
        at<float>(out));
  });
  m.def("split", [](float a) {
    const splat::cuda::Split s = splat::cuda::selftest::run_split(a);
    return nb::make_tuple(s.high, s.low);
  });
  const auto bits = [](float a) { return std::bit_cast<uint32_t>(a); };
  m.def("split_both", [bits](uint32_t a) {
    const splat::cuda::Split s = splat::cuda::selftest::run_split_both(a);
    return nb::make_tuple(bits(s.high), bits(s.low));
  });
  m.def("round_rest", [bits](uint32_t a) { return bits(splat::cuda::selftest::run_round_rest(a)); });
  m.def("leave_error", [](int error) { ::shim::last_error = cudaError_t(error); });
  nb::enum_<Fault>(m, "Fault")
      .value("DIVERGENT_BARRIER", Fault::kDivergentBarrier)
      .value("TWO_BARRIERS", Fault::kTwoBarriers)
      .value("NOT_IN_MASK", Fault::kNotInMask)
      .value("MISSING_LANE", Fault::kMissingLane)
      .value("DIFFERENT_COLLECTIVES", Fault::kDifferentCollectives)
      .value("READS_OUTSIDE_MASK", Fault::kReadsOutsideMask)
      .value("SHARED_TOO_SMALL", Fault::kSharedTooSmall)
      .value("SHARED_OVERRUN", Fault::kSharedOverrun)
      .value("WRITES_BEHIND", Fault::kWritesBehind);
  m.def("last_error", [] { return int(cudaGetLastError()); });
  m.def("broken", [](Fault fault, uintptr_t out, int threads, size_t shared_bytes) {
    run_broken(fault, at<float>(out), threads, shared_bytes);
  });
}

// Chooses the kernels for the processor at hand.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels_isa.h"
#include "training_kernels.h"

SPLAT_DECLARE_KERNELS(portable)
SPLAT_DECLARE_TRAINING_KERNELS(portable)
#if defined(SPLAT_X86)
SPLAT_DECLARE_KERNELS(avx2)
SPLAT_DECLARE_KERNELS(avx512)
SPLAT_DECLARE_TRAINING_KERNELS(avx2)
SPLAT_DECLARE_TRAINING_KERNELS(avx512)
#endif

namespace splat {
namespace {

enum class Isa { kPortable, kAvx2, kAvx512 };

bool supported(Isa isa) {
#if defined(SPLAT_X86)
  __builtin_cpu_init();
  if (isa == Isa::kAvx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (isa == Isa::kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == Isa::kPortable;
}

Isa choose() {
  const char* wanted = std::getenv("GSPLAT_ISA");
  const std::string name = wanted ? wanted : "";
  if (name.empty()) {
    if (supported(Isa::kAvx512)) return Isa::kAvx512;
    return supported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPortable;
  }
  const Isa isa = name == "avx512" ? Isa::kAvx512 : name == "avx2" ? Isa::kAvx2 : Isa::kPortable;
  if (isa == Isa::kPortable && name != "portable")
    throw std::invalid_argument("expected GSPLAT_ISA to be portable, avx2 or avx512, found " + name +
                                ": correct it, or unset it to use the best");
  if (!supported(isa))
    throw std::invalid_argument("expected GSPLAT_ISA to be a set of this processor and build, found " + name +
                                ": unset it to use the best");
  return isa;
}

#define SPLAT_KERNELS(ISA, TYPE, BYTES)                                      \
  {ISA::project_##TYPE, ISA::project_backward_##TYPE, ISA::find_rows_##TYPE, \
   ISA::render_##TYPE,  ISA::render_backward_##TYPE,  BYTES / int(sizeof(TYPE))}

const Kernels<float> kFloat[] = {SPLAT_KERNELS(portable, float, 16),
#if defined(SPLAT_X86)
                                 SPLAT_KERNELS(avx2, float, 32), SPLAT_KERNELS(avx512, float, 64)
#endif
};
const Kernels<double> kDouble[] = {SPLAT_KERNELS(portable, double, 16),
#if defined(SPLAT_X86)
                                   SPLAT_KERNELS(avx2, double, 32), SPLAT_KERNELS(avx512, double, 64)
#endif
};

#define SPLAT_TRAINING_KERNELS(ISA, TYPE) \
  {ISA::photometric_scratch, ISA::photometric_##TYPE, ISA::adam_##TYPE}

const TrainingKernels<float> kTrainingFloat[] = {SPLAT_TRAINING_KERNELS(portable, float),
#if defined(SPLAT_X86)
                                                 SPLAT_TRAINING_KERNELS(avx2, float),
                                                 SPLAT_TRAINING_KERNELS(avx512, float)
#endif
};
const TrainingKernels<double> kTrainingDouble[] = {SPLAT_TRAINING_KERNELS(portable, double),
#if defined(SPLAT_X86)
                                                   SPLAT_TRAINING_KERNELS(avx2, double),
                                                   SPLAT_TRAINING_KERNELS(avx512, double)
#endif
};

}  // namespace

// The environment is read at every call: tests compare instruction sets within one process.
template <>
const Kernels<float>& kernels<float>() {
  return kFloat[int(choose())];
}
template <>
const Kernels<double>& kernels<double>() {
  return kDouble[int(choose())];
}

template <>
const TrainingKernels<float>& training_kernels<float>() {
  return kTrainingFloat[int(choose())];
}
template <>
const TrainingKernels<double>& training_kernels<double>() {
  return kTrainingDouble[int(choose())];
}

const char* isa_name() {
  const char* const names[] = {"portable", "avx2", "avx512"};
  return names[int(choose())];
}

}  // namespace splat

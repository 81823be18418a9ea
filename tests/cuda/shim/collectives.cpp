#include "collectives.h"

#include <algorithm>
#include <array>
#include <bit>

namespace shim {

const char* name_of(Collective what) {
  constexpr std::array kNames = {"__syncwarp",          "a shuffle",         "__ballot_sync",
                                 "__all_sync",          "__any_sync",        "__match_any_sync",
                                 "__reduce_add_sync",   "__reduce_min_sync", "__reduce_max_sync",
                                 "__reduce_or_sync",    "__reduce_and_sync", "__syncthreads",
                                 "__syncthreads_count", "__syncthreads_and", "__syncthreads_or"};
  return kNames[size_t(what)];
}

std::string text_of(const Where& where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string hex(unsigned mask) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text += kDigits[(mask >> shift) & 15];
  return text;
}

uint64_t warp_result(const Thread* warp, int lane, unsigned lanes) {
  const Thread& own = warp[lane];
  if (own.what == Collective::kSyncwarp) return 0;
  if (own.what == Collective::kShuffle) return warp[own.source].value;
  const bool starts_high = own.what == Collective::kAll || own.what == Collective::kReduceMin ||
                           own.what == Collective::kReduceAnd;
  uint64_t result = starts_high ? (own.what == Collective::kAll ? 1 : 0xffffffffu) : 0;
  for (unsigned rest = lanes; rest; rest &= rest - 1) {
    const int other = std::countr_zero(rest);
    const uint64_t value = warp[other].value;
    switch (own.what) {
      case Collective::kBallot:
        result |= value << other;
        break;
      case Collective::kMatchAny:
        result |= uint64_t(value == own.value) << other;
        break;
      case Collective::kAll:
      case Collective::kReduceAnd:
        result &= value;
        break;
      case Collective::kAny:
      case Collective::kReduceOr:
        result |= value;
        break;
      case Collective::kReduceAdd:
        result += value;
        break;
      case Collective::kReduceMin:
        result = std::min(result, value);
        break;
      case Collective::kReduceMax:
        result = std::max(result, value);
        break;
      default:
        break;
    }
  }
  return result;
}

}  // namespace shim

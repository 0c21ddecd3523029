// Rows converted between the type of their storage and the type that a kernel computes in.
#pragma once
#include "../math/half.h"
#include "../operands.h"
#include "simd.h"

namespace spherical {

// to[i] = from[i] for i in [0, d), where S is the stored type: float or half precision.
template <class S, class T> SIMD_CLONES void convert_from(const S *from, int64_t d, T *to) {
  for (int64_t i = 0; i < d; ++i) {
    if constexpr (std::is_same_v<S, float>)
      to[i] = from[i];
    else
      to[i] = to_float(from[i]);
  }
}
template <class S, class T> SIMD_CLONES void convert_to(const T *from, int64_t d, S *to) {
  for (int64_t i = 0; i < d; ++i) {
    if constexpr (std::is_same_v<S, float>)
      to[i] = static_cast<float>(from[i]);
    else
      convert(static_cast<float>(from[i]), to[i]);
  }
}

} // namespace spherical

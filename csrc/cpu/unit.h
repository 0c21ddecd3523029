// Whether a row is a unit vector.
#pragma once
#include "sums.h"

namespace spherical {

// Returns whether |x| is 1 within the tolerance, for a row x: [d]. NaN is not.
template <class T> HD_INLINE bool is_unit(const T *x, int64_t d, T tolerance) {
  T square[1];
  row_sums<T, 1>(d, square, [=](int64_t i, T(&out)[1]) __attribute__((always_inline)) {
    out[0] = x[i] * x[i];
  });
  return std::fabs(std::sqrt(square[0]) - T(1)) <= tolerance;
}

} // namespace spherical

// Spherical Cauchy over the rows of a tile: log_prob_ratio, with a logarithm of fewer terms.
#pragma once
#include "../../math/spherical_cauchy.h"
#include "../over_rows.h"

namespace spherical {

template <> struct OverRows<SphericalCauchy> : LoopsOverRows<SphericalCauchy> {
  SIMD_CLONES FLATTEN static void log_prob_ratio_for_float(const Dim<double> &dim, int64_t n,
                                                           const double *rho, const double *sin2,
                                                           double *out) {
    for (int64_t r = 0; r < n; ++r) {
      const double gap = SphericalCauchy::gap(rho[r]);
      out[r] = -2 * dim.b * log1p_for_float(4 * rho[r] * sin2[r] / (gap * gap));
    }
  }
};

} // namespace spherical

// Spherical Cauchy over the rows of a tile: samples, of which none is rejected, and log_prob_ratio
// with a logarithm of fewer terms.
#pragma once
#include "../../math/spherical_cauchy.h"
#include "../../sphere.h"
#include "../over_rows.h"

namespace spherical {

template <> struct OverRows<SphericalCauchy> : LoopsOverRows<SphericalCauchy> {
  template <class T>
  SIMD_CLONES FLATTEN static void sample_at_once(const Dim<T> &dim, int64_t n, const T *rho,
                                                 const FirstProposals<T> &first,
                                                 SampleCoefficients<T> *out, bool *done) {
    constexpr int no_noise = 0;
    for (int64_t r = 0; r < n; ++r)
      out[r] = sample_coefficients<SphericalCauchy>(rho[r], dim, first.p[r], first.s[r], no_noise);
    std::fill_n(done, n, true);
  }

  SIMD_CLONES FLATTEN static void log_prob_ratio_for_float(const Dim<double> &dim, int64_t n,
                                                           const double *rho, const double *sin2,
                                                           double *out) {
    for (int64_t r = 0; r < n; ++r) {
      const double gap = SphericalCauchy::gap(rho[r]);
      out[r] = -2 * dim.b * log1p_of_normal(4 * rho[r] * sin2[r] / (gap * gap));
    }
  }
};

} // namespace spherical

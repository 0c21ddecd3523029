// A family's scalar functions over the rows of a tile.
#pragma once
#include "../families.h"
#include "simd.h"

namespace spherical {

// out[r] = f(kappa[r], ...), by a loop over Family's own functions. The results for a row depend on
// the row and d alone, not on its neighbours.
template <class Family> struct LoopsOverRows {
  // In double, which is rounded to T later.
  template <class T>
  SIMD_CLONES FLATTEN static void log_prob_at_mode(const Dim<double> &dim, int64_t n,
                                                   const T *kappa, double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode(double{kappa[r]}, dim);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_prob_at_mode_dkappa(const Dim<T> &dim, int64_t n,
                                                          const T *kappa, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode_dkappa(kappa[r], dim);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void implicit_gradient(const Dim<T> &dim, int64_t n, const T *kappa,
                                                    const HalfAngle<T> *c, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::implicit_gradient(kappa[r], dim, c[r]);
  }
};

// To be specialised where there is a way that vectorises.
template <class Family> struct OverRows : LoopsOverRows<Family> {};

} // namespace spherical

#include "power_spherical_rows.h"
#include "von_mises_fisher_rows.h"

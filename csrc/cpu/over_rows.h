// The scalar functions of a family over the rows of a tile.
#pragma once
#include "../math/types.h"
#include "tile.h"

namespace spherical {

template <class Family> struct OverRows;

// What Family::sample gets for the rows of a tile, see SampleCoefficients, and what its noise has
// for the first proposal.
template <class T> struct FirstProposals {
  T p[kTile], s[kTile];
  T minus_two_log[kTile], minus_two_log2[kTile]; // see ProposalNoise
};

// done[r] = whether margin[r] is not negative.
template <class T> HD_INLINE void set_done(const T *margin, int64_t n, bool *done) {
  for (int64_t r = 0; r < n; ++r)
    done[r] = margin[r] >= T(0);
}

// out[r] = f(kappa[r], ...) for r in [0, n), by a loop over the functions of Family. The result for
// a row depends on that row and d alone.
template <class Family> struct LoopsOverRows {
  // The results are in double. Those of kappas in float are rounded to float later.
  SIMD_CLONES FLATTEN static void log_prob_at_mode(const Dim<double> &dim, int64_t n,
                                                   const double *kappa, double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode(kappa[r], dim);
  }
  static void log_prob_at_mode(const Dim<double> &dim, int64_t n, const float *kappa, double *out) {
    double wide[kTile];
    std::copy(kappa, kappa + n, wide);
    OverRows<Family>::log_prob_at_mode(dim, n, wide, out);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_prob_at_mode_dkappa(const Dim<T> &dim, int64_t n,
                                                          const T *kappa, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode_dkappa(kappa[r], dim);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_prob_at_mode_over_uniform(const Dim<T> &dim, int64_t n,
                                                                const T *kappa, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode_over_uniform(kappa[r], dim);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void implicit_gradient(const Dim<T> &dim, int64_t n, const T *kappa,
                                                    const HalfAngle<T> *c, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::implicit_gradient(kappa[r], dim, c[r]);
  }
  // Sets the coefficients of the samples whose first proposal can be accepted at once, and `done`
  // there. The others are left to Family::sample.
  template <class T>
  static void sample_at_once(const Dim<T> &, int64_t n, const T *, const FirstProposals<T> &,
                             SampleCoefficients<T> *, bool *done) {
    std::fill_n(done, n, false);
  }
  // These two to a relative 1e-9: the results are rounded to float later.
  static void kl_uniform_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                   double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::kl_uniform(kappa[r], dim);
  }
  static void kl_uniform_dkappa_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                          double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::kl_uniform_dkappa(kappa[r], dim);
  }
  // To a relative 1e-11 where sin2[r] is at most 1 - 1e-6. The result is rounded to float later.
  SIMD_CLONES FLATTEN static void log_prob_ratio_for_float(const Dim<double> &dim, int64_t n,
                                                           const double *kappa, const double *sin2,
                                                           double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_ratio(kappa[r], dim, HalfAngle<double>{sin2[r], 1 - sin2[r]});
  }
};

// The loops of a family. cpu/families/<family>.h specialises it where these loops would not
// vectorise.
template <class Family> struct OverRows : LoopsOverRows<Family> {};

} // namespace spherical

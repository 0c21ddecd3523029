// Power Spherical over the rows of a tile: log_prob_at_mode by forms without a branch on kappa, which
// are compiled in power_spherical.cpp, and implicit_gradient with each of its steps for all rows of
// the tile at once.
#pragma once
#include "../../math/power_spherical.h"
#include "../../sphere.h"
#include "../over_rows.h"

namespace spherical {

template <> struct OverRows<PowerSpherical> : LoopsOverRows<PowerSpherical> {
  using LoopsOverRows<PowerSpherical>::log_prob_at_mode; // of kappas in float
  static void log_prob_at_mode(const Dim<double> &dim, int64_t n, const double *kappa, double *out);
  template <class T>
  static void log_prob_at_mode_dkappa(const Dim<T> &dim, int64_t n, const T *kappa, T *out);
  static void log_prob_at_mode_over_uniform(const Dim<double> &dim, int64_t n, const double *kappa,
                                            double *out);
  static void kl_uniform_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                   double *out);
  static void kl_uniform_dkappa_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                          double *out);

  template <class T>
  SIMD_CLONES FLATTEN static void implicit_gradient(const Dim<T> &dim, int64_t n, const T *kappa,
                                                    const HalfAngle<T> *c, T *out) {
    Rows<T> rows, few;
    expand(dim, n, kappa, c, rows);
    for (int64_t r = 0; r < n; ++r)
      out[r] = T(0.5) * rows.q[r];
    int64_t steps[kTile]; // the rows that step down
    const int64_t count = select_rows(
        n, [&](int64_t r) __attribute__((always_inline)) { return rows.n[r] > T(0); }, steps);
    if (count == 0)
      return;
    for (int64_t i = 0; i < count; ++i)
      few.copy(rows, steps[i], i);
    T some[kTile], raised = T(0);
    step_down(dim, count, few);
    for (int64_t i = 0; i < count; ++i) {
      few.raises_b[i] = few.point(i).raises_b(few.centered[i]) ? T(1) : T(0);
      raised += few.raises_b[i];
      some[i] = T(0.5) * few.q[i];
    }
    if (raised > T(0))
      add_series(dim, count, few, some);
    for (int64_t i = 0; i < count; ++i)
      out[steps[i]] = some[i];
  }

  template <class T>
  SIMD_CLONES FLATTEN static void sample_at_once(const Dim<T> &dim, int64_t n, const T *kappa,
                                                 const FirstProposals<T> &first,
                                                 SampleCoefficients<T> *out, bool *done) {
    T margin[kTile];
    for (int64_t r = 0; r < n; ++r) {
      const T a = dim.b + kappa[r];
      const GammaProposals<T> proposals(a);
      const T w = proposals.c * first.p[r];
      margin[r] = a >= T(1) ? proposals.margin(w, first.minus_two_log[r]) : T(-1);
      out[r] = rescaled(PS::sample_of_gamma(proposals.value(w), first.s[r]), first.s[r]);
    }
    set_done(margin, n, done);
  }

  SIMD_CLONES FLATTEN static void log_prob_ratio_for_float(const Dim<double> &, int64_t n,
                                                           const double *kappa, const double *sin2,
                                                           double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = kappa[r] * log1p_of_normal(-sin2[r]);
  }

private:
  using PS = PowerSpherical;

  template <class T> struct Rows { // ImplicitGradientPoint, and q, by columns
    T a[kTile], sin2[kTile], cos2[kTile], n[kTile], inv_top[kTile], x[kTile], l[kTile],
        centered[kTile];
    T q[kTile], raises_b[kTile];

    // Copies what steps need of row r of another tile to row `to`.
    HD_INLINE void copy(const Rows &from, int64_t r, int64_t to) {
      a[to] = from.a[r];
      sin2[to] = from.sin2[r];
      cos2[to] = from.cos2[r];
      n[to] = from.n[r];
      centered[to] = from.centered[r];
      q[to] = from.q[r];
    }
    HD_INLINE PS::ImplicitGradientPoint<T> point(int64_t r) const {
      PS::ImplicitGradientPoint<T> point;
      point.a = a[r];
      point.sin2 = sin2[r];
      point.cos2 = cos2[r];
      return point;
    }
  };

  template <class T>
  static HD_INLINE void expand(const Dim<T> &dim, int64_t n, const T *kappa, const HalfAngle<T> *c,
                               Rows<T> &rows) {
    for (int64_t r = 0; r < n; ++r) {
      const PS::ImplicitGradientPoint<T> point(kappa[r], dim, c[r]);
      rows.a[r] = point.a;
      rows.sin2[r] = point.sin2;
      rows.cos2[r] = point.cos2;
      rows.n[r] = point.n;
      rows.inv_top[r] = point.inv_top;
      rows.x[r] = point.x;
      rows.l[r] = point.l;
      rows.centered[r] = point.centered;
    }
    for (T *values : {rows.inv_top, rows.x, rows.l})
      fill_vector<Vector<T>>(values, n);
    const int order = PS::implicit_gradient_order(dim.b); // top >= b: not less than a row needs
    for (int64_t r = 0; r < n; r += VectorOf<T>::width) {
      Vector<T> inv_top, x, l, sum;
      load(rows.inv_top + r, inv_top);
      load(rows.x + r, x);
      load(rows.l + r, l);
      PS::implicit_gradient_sum<Vector<T>, T>(inv_top, x, l, order, sum);
      store(sum, rows.q + r);
    }
    for (int64_t r = 0; r < n; ++r)
      rows.q[r] = PS::implicit_gradient_expansion(rows.inv_top[r], rows.l[r], rows.q[r]);
  }

  template <class T> static HD_INLINE void step_down(const Dim<T> &dim, int64_t n, Rows<T> &rows) {
    for (T i = *std::max_element(rows.n, rows.n + n) - T(1); i >= T(0); i -= T(1))
      for (int64_t r = 0; r < n; ++r) {
        T centered = rows.centered[r], q = rows.q[r];
        rows.point(r).step_down(i, dim.b, centered, q);
        rows.centered[r] = i < rows.n[r] ? centered : rows.centered[r];
        rows.q[r] = i < rows.n[r] ? q : rows.q[r];
      }
  }

  template <class T>
  static HD_INLINE void add_series(const Dim<T> &dim, int64_t n, const Rows<T> &rows, T *out) {
    T term[kTile], harmonic[kTile] = {}, sum[kTile];
    std::fill_n(term, n, T(1));
    std::copy(rows.centered, rows.centered + n, sum);
    for (int i = 0; i < PS::ImplicitGradient<T>::series; ++i)
      for (int64_t r = 0; r < n; ++r)
        PS::add_series_term(T(i), rows.a[r], dim.b, rows.sin2[r], rows.centered[r], term[r],
                            harmonic[r], sum[r]);
    for (int64_t r = 0; r < n; ++r)
      out[r] = rows.raises_b[r] > T(0) ? T(0.5) * sum[r] / dim.b : out[r];
  }
};

} // namespace spherical

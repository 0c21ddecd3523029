// Power Spherical over the rows of a tile: log_prob_at_mode by forms without a branch on kappa, and
// implicit_gradient with each of its steps for all rows of the tile at once.
#pragma once
#include "../../math/power_spherical.h"
#include "../../sphere.h"
#include "../over_rows.h"

namespace spherical {

template <> struct OverRows<PowerSpherical> : LoopsOverRows<PowerSpherical> {
  using LoopsOverRows<PowerSpherical>::log_prob_at_mode; // of kappas in float
  SIMD_CLONES FLATTEN static void log_prob_at_mode(const Dim<double> &dim, int64_t n,
                                                   const double *kappa, double *out) {
    if (dim.d < 24)
      at_mode_by_products(dim, n, kappa, out);
    else
      at_mode_by_stirling(dim.b, n, kappa, out);
  }

  SIMD_CLONES FLATTEN static void log_prob_at_mode_over_uniform(const Dim<double> &dim, int64_t n,
                                                                const double *kappa, double *out) {
    over_uniform_from_one(dim, n, kappa, out);
    for (int64_t r = 0; r < n; ++r)
      if (kappa[r] < 1)
        out[r] = PS::log_prob_at_mode_over_uniform(kappa[r], dim);
  }

  // log p(mu) + log_area - kappa d/dkappa log p(mu). The terms are 2 d/kappa times the result at
  // most, of which double has enough digits for kappa >= 1.
  SIMD_CLONES FLATTEN static void kl_uniform_for_float(const Dim<double> &dim, int64_t n,
                                                       const double *kappa, double *out) {
    over_uniform_from_one(dim, n, kappa, out);
    const double b = dim.b;
    const int raised = raised_by(b);
    double slope[kTile];
    for (int64_t r = 0; r < n; ++r)
      slope[r] =
          digamma_difference(b, 1 / (kappa[r] + (b + raised)), 1 / (kappa[r] + (b + b + raised)));
    for (int i = 0; i < raised; ++i)
      for (int64_t r = 0; r < n; ++r)
        slope[r] += b / ((kappa[r] + (b + i)) * (kappa[r] + (b + b + i)));
    for (int64_t r = 0; r < n; ++r)
      out[r] -= kappa[r] * slope[r];
    for (int64_t r = 0; r < n; ++r)
      if (kappa[r] < 1)
        out[r] = PS::kl_uniform(kappa[r], dim);
  }

  // -kappa d2/dkappa2 log p(mu), as log_prob_at_mode_dkappa2.
  SIMD_CLONES FLATTEN static void kl_uniform_dkappa_for_float(const Dim<double> &dim, int64_t n,
                                                              const double *kappa, double *out) {
    const double b = dim.b;
    const int raised = raised_by(b);
    for (int64_t r = 0; r < n; ++r)
      out[r] =
          trigamma_difference(b, 1 / (kappa[r] + (b + raised)), 1 / (kappa[r] + (b + b + raised)));
    for (int i = 0; i < raised; ++i)
      for (int64_t r = 0; r < n; ++r) {
        const double a = kappa[r] + (b + i), s = a + b, inverse = b / (a * s);
        out[r] += inverse * inverse * ((a + s) / b);
      }
    for (int64_t r = 0; r < n; ++r)
      out[r] *= kappa[r];
  }

  template <class T>
  SIMD_CLONES FLATTEN static void implicit_gradient(const Dim<T> &dim, int64_t n, const T *kappa,
                                                    const HalfAngle<T> *c, T *out) {
    Rows<T> rows;
    expand(dim, n, kappa, c, rows);
    step_down(dim, n, rows);
    T raised = T(0);
    for (int64_t r = 0; r < n; ++r) {
      rows.raises_b[r] = rows.point(r).raises_b(rows.centered[r]) ? T(1) : T(0);
      raised += rows.raises_b[r];
      out[r] = T(0.5) * rows.q[r];
    }
    if (raised > T(0))
      add_series(dim, n, rows, out);
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
      out[r] = kappa[r] * log1p_for_float(-sin2[r]);
  }

private:
  using PS = PowerSpherical;

  // log p(mu) + log_area, which is relatively accurate from kappa = 1 on.
  static HD_INLINE void over_uniform_from_one(const Dim<double> &dim, int64_t n,
                                              const double *kappa, double *out) {
    if (dim.d >= 24)
      return over_uniform_by_stirling(dim.b, n, kappa, out);
    at_mode_by_products(dim, n, kappa, out);
    for (int64_t r = 0; r < n; ++r)
      out[r] += dim.log_area;
  }

  // How often an argument b + kappa is raised before Stirling's series, for every kappa alike.
  static HD_INLINE int raised_by(double b) {
    return b < Stirling<double>::threshold ? Stirling<double>::shift : 0;
  }

  // log p(mu) = log [(4 pi)^-b Gamma(s)/Gamma(a)] for d < 24: prod_{i<b} (a + i) is the ratio of
  // gammas if b is an integer. If it is not, Gamma(x + 1/2)/Gamma(x) is another factor, with
  // x = a + floor(b) raised by n to where w = x + n - 1/4 >= 8.
  static HD_INLINE void at_mode_by_products(const Dim<double> &dim, int64_t n, const double *kappa,
                                            double *out) {
    constexpr long double inv_4pi = 0.25L / kPi;
    const int whole = static_cast<int>(dim.b);
    const bool half = dim.b > whole;
    long double scale = half ? std::sqrt(inv_4pi) : 1.0L;
    for (int i = 0; i < whole; ++i)
      scale *= inv_4pi;
    double product[kTile], above[kTile], below[kTile];
    std::fill_n(product, n, static_cast<double>(scale));
    for (int i = 0; i < whole; ++i)
      for (int64_t r = 0; r < n; ++r)
        product[r] *= kappa[r] + (dim.b + i);
    if (half) {
      const int raised = std::max(8 - 2 * whole, 0);
      const double x = dim.b + whole;
      std::fill_n(above, n, 1.0);
      std::fill_n(below, n, 1.0);
      for (int i = 0; i < raised; ++i)
        for (int64_t r = 0; r < n; ++r) {
          above[r] *= kappa[r] + (x + i);
          below[r] *= kappa[r] + (x + i + 0.5);
        }
      for (int64_t r = 0; r < n; ++r) {
        const double w = kappa[r] + (x + raised - 0.25), inverse = 1 / (w * below[r]);
        const double inv_w = below[r] * inverse, z = inv_w * inv_w;
        double ratio = 0;
        UNROLL
        for (int k = std::size(kHalfStep) - 1; k >= 0; --k)
          ratio = ratio * z + kHalfStep[k];
        product[r] *= std::sqrt(w) * ratio * (above[r] * (w * inverse));
      }
    }
    for (int64_t r = 0; r < n; ++r)
      out[r] = log_of(product[r]);
  }

  // log p(mu) = b log(s/(4 pi e)) + (a - 1/2) log(s/a) + Delta(s) - Delta(a) for a >= 11.5.
  static HD_INLINE void at_mode_by_stirling(double b, int64_t n, const double *kappa, double *out) {
    constexpr double inv_4pi_e = 0.25L / kPi / 2.718281828459045235360L;
    for (int64_t r = 0; r < n; ++r) {
      const double a = kappa[r] + b, s = kappa[r] + (b + b), inverse = 1 / (a * s);
      const double inv_a = s * inverse, inv_s = a * inverse;
      const double remainder = stirling_remainder(inv_s) - stirling_remainder(inv_a);
      out[r] = b * log_of(s * inv_4pi_e) + ((a - 0.5) * log1p_of(b * inv_a) + remainder);
    }
  }

  // log p(mu) + log_area = log [Gamma(s)/Gamma(2b)] - log [Gamma(a)/Gamma(b)], for b >= 11.5: every
  // term vanishes with kappa.
  static HD_INLINE void over_uniform_by_stirling(double b, int64_t n, const double *kappa,
                                                 double *out) {
    const double inv_b = 1 / b, inv_2b = 0.5 * inv_b;
    const double at_zero = stirling_remainder(inv_2b) - stirling_remainder(inv_b);
    for (int64_t r = 0; r < n; ++r) {
      const double k = kappa[r], a = k + b, s = k + (b + b), inverse = 1 / (a * s);
      const double inv_a = s * inverse, inv_s = a * inverse;
      const double remainder = stirling_remainder(inv_s) - stirling_remainder(inv_a) - at_zero;
      const double grown = (b + b - 0.5) * log1p_of(k * inv_2b) - (b - 0.5) * log1p_of(k * inv_b);
      out[r] = k * log1p_of(b * inv_a) + (grown + remainder);
    }
  }

  template <class T> struct Rows { // ImplicitGradientPoint, and q, by columns
    T a[kTile], sin2[kTile], cos2[kTile], n[kTile], inv_top[kTile], x[kTile], l[kTile],
        centered[kTile];
    T q[kTile], raises_b[kTile];

    HD_INLINE PS::ImplicitGradientPoint<T> point(int64_t r) const {
      PS::ImplicitGradientPoint<T> point;
      point.a = a[r];
      point.sin2 = sin2[r];
      point.cos2 = cos2[r];
      point.inv_top = inv_top[r];
      point.l = l[r];
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
      rows.q[r] = rows.point(r).implicit_gradient_expansion(rows.q[r]);
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

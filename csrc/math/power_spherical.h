// Power Spherical: p(x) = C(kappa) (1 + t)^kappa, t = mu . x (De Cao & Aziz 2020, eq. 7-8).
//
// With cos2 = (1 + t)/2 and sin2 = 1 - cos2, the density is written as p(x) = p(mu) cos2^kappa, and
//   log p(mu) = log C + kappa log 2 = log Gamma(s) - log Gamma(a) - b log(4 pi),
//   b = (d - 1)/2, a = b + kappa, s = a + b,
// so that the two terms of size kappa log 2 in the textbook form never appear. cos2 ~ Beta(a, b).
// Error bounds below are the largest seen by tests/math/test_scalar_math.py, which compares with
// mpmath.
#pragma once
#include "elementary.h"
#include "exponential_form.h"
#include "gamma.h"
#include "power_spherical_coefficients.h"
#include "stirling.h"
#include <limits>

namespace spherical {

struct PowerSpherical : ExponentialForm<PowerSpherical> {
  using Identities = ExponentialForm<PowerSpherical>;
  static constexpr const char *name = "power_spherical";
  static constexpr double upper_bound = kUpperBound;

  // log p(mu): at_mode_near_zero about a base point, where that applies, else at_mode_by_stirling.
  template <class T> static HD T log_prob_at_mode(T kappa, const Dim<T> &dim) {
    using Base = ModeBase<T>;
    if (dim.d < T(Base::d_begin))
      return at_mode_by_stirling(kappa, dim.b);
    const bool tabulated = dim.d < T(Base::d_end);
    const int row = tabulated ? static_cast<int>(dim.d) - Base::d_begin : 0;
    const T kappa0 = tabulated ? Base::kappa(row) : T(0);
    const T a = dim.b + kappa, a0 = dim.b + kappa0, x = (kappa - kappa0) / a0;
    if (x >= T(-0.4) && x <= T(0.85) && a >= Range<T>::stirling)
      return at_mode_near_zero(kappa, dim.b, kappa0, tabulated ? Base::value(row) : -dim.log_area);
    return at_mode_by_stirling(kappa, dim.b);
  }

  // d/dkappa log p(mu) = psi(s) - psi(a) = -E[log cos2] > 0; below the threshold of Stirling's
  // series by psi(s) - psi(a) = psi(s + n) - psi(a + n) + sum_{i<n} b/((a + i)(s + i)), smallest
  // term first.
  template <class T> static HD T log_prob_at_mode_dkappa(T kappa, const Dim<T> &dim) {
    const T b = dim.b, a = b + kappa;
    const int n = a < Stirling<T>::threshold ? Stirling<T>::shift : 0;
    T sum = digamma_difference(b, T(1) / (kappa + (b + T(n))), T(1) / (kappa + (b + b + T(n))));
    for (int i = n - 1; i >= 0; --i)
      sum += b / ((kappa + (b + T(i))) * (kappa + (b + b + T(i))));
    return sum;
  }

  // d2/dkappa2 log p(mu) = psi'(s) - psi'(a) = -Var[log cos2] < 0. The arguments are raised in the
  // same way, with 1/a^2 - 1/s^2 = b (a + s)/(a s)^2. The largest term is sensitive to the rounding
  // of a = b + kappa. The first-order effect of that is taken out, by an approximate derivative.
  template <class T> static HD T log_prob_at_mode_dkappa2(T kappa, const Dim<T> &dim) {
    const T b = dim.b, a = b + kappa;
    const int n = a < Stirling<T>::threshold ? Stirling<T>::shift : 0;
    T sum = trigamma_difference(b, T(1) / (kappa + (b + T(n))), T(1) / (kappa + (b + b + T(n))));
    for (int i = n - 1; i >= 0; --i) {
      const T ai = kappa + (b + T(i)), si = kappa + (b + b + T(i)), inv = b / (ai * si);
      const T term = inv * inv * ((ai + si) / b);
      if (i == 0) {
        const T lost = kappa < b ? kappa - (ai - b) : b - (ai - kappa);
        sum -= lost * (T(1) / ai + T(1) / si) * (T(1) + T(0.25) / ai) * term;
      }
      sum += term;
    }
    return -sum;
  }

  // log p(mu) + log_area. Where the two nearly cancel, for large d, it is the series about
  // kappa = 0. The identity of the exponential form serves for small kappa, and for all in float.
  template <class T> static HD T log_prob_at_mode_over_uniform(T kappa, const Dim<T> &dim) {
    if (is_float32<T> || kappa < T(1))
      return Identities::log_prob_at_mode_over_uniform(kappa, dim);
    if (dim.b >= Range<T>::stirling && kappa < T(4) * dim.b)
      return at_mode_near_zero(kappa, dim.b, T(0), T(0));
    return log_prob_at_mode(kappa, dim) + dim.log_area;
  }

  // E[t] = kappa / (d - 1 + kappa).
  template <class T> static HD T mean_resultant_length(T kappa, const Dim<T> &dim) {
    return kappa / (dim.b + dim.b + kappa);
  }

  // d/dkappa E[t] = (d - 1)/(d - 1 + kappa)^2.
  template <class T> static HD T mean_resultant_length_dkappa(T kappa, const Dim<T> &dim) {
    const T s = dim.b + dim.b + kappa;
    return (dim.b + dim.b) / s / s;
  }

  // The inverse stereographic image of a multivariate t: with s ~ Gamma(b) and G ~ Gamma(a),
  //   cos2 = G/(G + s) ~ Beta(a, b),  t = (G - s)/(G + s),  r = sqrt(2 G)/(G + s)
  // (docs/numerics.md#sampler).
  // p is independent of s, so it serves as the first normal of the gamma sampler.
  template <class T, class Noise>
  static HD SampleCoefficients<T> sample(T kappa, const Dim<T> &dim, T p, T s, const Noise &noise) {
    return sample_of_gamma(sample_gamma(dim.b + kappa, p, noise), s);
  }
  template <class T> static HD_INLINE SampleCoefficients<T> sample_of_gamma(T gamma, T s) {
    const T inv = T(1) / (gamma + s);
    return {(gamma - s) * inv, std::sqrt(T(2) * gamma) * inv};
  }

  // KL(PS(kappa) || uniform) = log p(mu) - kappa d/dkappa log p(mu) + log_area >= 0, of second
  // order in kappa: as a Bregman divergence, without the cancellation. Entropy = log_area - this.
  template <class T> static HD T kl_uniform(T kappa, const Dim<T> &dim) {
    return bregman_log_gamma_ratio(dim.b, dim.b, dim.b + kappa, kappa);
  }

  // log cos2, from the smaller of sin2 and cos2, so that it is relatively accurate at both poles.
  // It is log cos2 or log1p(-sin2); the latter is one logarithm, and the rounding error of 1 - sin2
  // is added to first order.
  template <class T> static HD_INLINE T log_of_cos2(HalfAngle<T> c) {
    const bool near = c.sin2 < c.cos2;
    const T cos2 = near ? T(1) - c.sin2 : c.cos2, lost = near ? (T(1) - cos2) - c.sin2 : T(0);
    return log_of(cos2) + lost / (near ? cos2 : T(1));
  }

  // log p(x) - log p(mu) = kappa log cos2. The uniform (kappa = 0) is 0 at the antipode cos2 = 0 as
  // well; otherwise the density there is 0. A NaN in cos2 stays one for every kappa.
  template <class T> static HD T log_prob_ratio(T kappa, const Dim<T> &, HalfAngle<T> c) {
    return kappa * (kappa == T(0) ? c.cos2 : log_of_cos2(c));
  }

  // d/dt (kappa log cos2) = kappa/(1 + t) = kappa/(2 cos2). It is 0 by definition at the antipode,
  // and so near it (1e-15 in float32) that the products of a gradient would overflow.
  template <class T> static HD T log_prob_ratio_dt(T kappa, const Dim<T> &, HalfAngle<T> c) {
    return c.cos2 < Range<T>::antipode ? T(0) * kappa : kappa / (T(2) * c.cos2);
  }

  // d/dkappa (kappa log cos2) = log cos2; 0 at the antipode by definition.
  template <class T> static HD T log_prob_ratio_dkappa(T, const Dim<T> &, HalfAngle<T> c) {
    return c.cos2 == T(0) ? T(0) : log_of_cos2(c);
  }

  // (dt/dkappa)/(1 - t^2) = q/2, q = (dcos2/da)/(cos2 sin2), at a fixed quantile of cos2 ~
  // Beta(a, b).
  //
  // q = -(dF/da) B(a, b) / (cos2^a sin2^b) solves a Stein equation. Three exact or asymptotic forms
  // cover the domain; c = log cos2 - E[log cos2]:
  //   a large, cos2 not far below its mean: expansion in 1/a (implicit_gradient_expansion)
  //   otherwise, raise a:  q(a, b) = [1/a - c + s cos2 q(a + 1, b)]/a,  downward from a + n.
  //     All terms are positive for c < 0; for larger cos2, cos2^n damps the growth of rounding
  //   a small and cos2 above, sin2 < sin2_series, raise b to infinity:
  //     q(a, b) = [c + s sin2 q(a, b + 1)]/b, that is (1/b) sum_n t_n (c + H_n),
  //     t_n = prod_{j<n} sin2 (s + j)/(b + 1 + j),  H_n = sum_{j<n} 1/(s + j)
  // The recurrences follow from those of the incomplete Beta function (DLMF 8.17.20-21)
  // differentiated in a. At cos2 = 0, where q grows as -log(cos2)/a, cos2 counts as the smallest
  // normal number: (1 - t^2) q is 0 there.
  template <class T> static HD T implicit_gradient(T kappa, const Dim<T> &dim, HalfAngle<T> c) {
    const ImplicitGradientPoint<T> point(kappa, dim, c);
    T sum, centered = point.centered;
    implicit_gradient_sum(point.inv_top, point.x, point.l, implicit_gradient_order(point.top), sum);
    T q = implicit_gradient_expansion(point.inv_top, point.l, sum);
    for (T i = point.n - T(1); i >= T(0); i -= T(1))
      point.step_down(i, dim.b, centered, q);
    if (!point.raises_b(centered))
      return T(0.5) * q;
    T term = T(1), harmonic = T(0);
    sum = centered;
    for (int i = 0; i < ImplicitGradient<T>::series; ++i)
      add_series_term(T(i), point.a, dim.b, point.sin2, centered, term, harmonic, sum);
    return T(0.5) * sum / dim.b;
  }

  // The limits of the three forms of implicit_gradient are chosen so that each error stays below
  // 1e-7 (float), 1e-14 (double) at the seams.
  template <class T> struct ImplicitGradient {
    static constexpr T a_min = is_float32<T> ? T(8) : T(16);
    static constexpr T l_max = is_float32<T> ? T(1.5) : T(1.75);
    static constexpr int raise = is_float32<T> ? 8 : 16;
    static constexpr T sin2_series = is_float32<T> ? T(0.45) : T(0.25);
    static constexpr int series = is_float32<T> ? 32 : 64;
  };

  // The point of the expansion, top = a + n, and the steps down from there.
  template <class T> struct ImplicitGradientPoint {
    T a, sin2, cos2, n, top;
    T inv_top, x, l; // 1/top, x = top/(top + b), l = log(cos2/x)
    T centered;      // c at top

    ImplicitGradientPoint() = default;
    HD_INLINE ImplicitGradientPoint(T kappa, const Dim<T> &dim, HalfAngle<T> c) {
      const T b = dim.b;
      sin2 = c.sin2;
      cos2 = c.cos2 < Range<T>::smallest ? Range<T>::smallest : c.cos2;
      a = b + kappa;
      const T log_cos2 = log_of_cos2(HalfAngle<T>{sin2, cos2});
      const T lack = ImplicitGradient<T>::a_min - at_least_zero(a);
      n = lack > T(0) ? std::ceil(lack) : T(0);
      const bool below = log_cos2 + log1p_of(b / (a + n)) < -ImplicitGradient<T>::l_max;
      n += below ? T(ImplicitGradient<T>::raise) : T(0);
      top = a + n;
      inv_top = T(1) / top;
      x = top / (top + b);
      l = log_cos2 + log1p_of(b * inv_top);
      l = l < -ImplicitGradient<T>::l_max ? -ImplicitGradient<T>::l_max : l;
      centered = log_cos2 + digamma_difference(b, inv_top, T(1) / (top + b));
    }

    // Takes c and q from a + i + 1 to a + i.
    HD_INLINE void step_down(T i, T b, T &c, T &q) const {
      const T ai = a + i, si = ai + b, inv = T(1) / (ai * si), inv_a = si * inv;
      c += b * inv;
      q = inv_a * ((inv_a - c) + si * cos2 * q);
    }
    // Returns whether the series in b must be used instead, given c at a.
    HD_INLINE bool raises_b(T c) const {
      return a < ImplicitGradient<T>::a_min && sin2 < ImplicitGradient<T>::sin2_series && c >= T(0);
    }
  };

  // q = (1/a) sum_k a^-k sum_{j<=k} x^j Q_kj(l): perturbation of the Stein equation in 1/a, with
  // Q_0 = l/(e^l - 1) in closed form, given the sum over k >= 1, implicit_gradient_sum.
  template <class T> static HD_INLINE T implicit_gradient_expansion(T inv_a, T l, T sum) {
    const T near = T(1) + l * (T(-0.5) + l * T(1.0 / 12));
    const T first = std::fabs(l) < T(1e-3) ? near : l / expm1_of(l);
    return inv_a * (first + inv_a * sum);
  }

  // Adds term i + 1 to sum_n t_n (c + H_n), given t_i and H_i, which become the next.
  template <class T>
  static HD_INLINE void add_series_term(T i, T a, T b, T sin2, T c, T &term, T &harmonic, T &sum) {
    const T si = a + b + i, bi = b + T(1) + i, inv = T(1) / (si * bi);
    term *= sin2 * si * (si * inv);
    harmonic += bi * inv;
    sum += term * (c + harmonic);
  }

  // sum = sum_{k>=1} a^(1-k) sum_{j<=k} x^j Q_kj(l), by the Taylor series of Q_kj. T is S, or a
  // vector of S. The sum is an argument, because functions compiled for different instruction sets
  // do not return vectors in the same way.
  template <class T, class S = T>
  static HD_INLINE void implicit_gradient_sum(const T &inv_a, const T &x, const T &l, int order,
                                              T &sum) {
    using Table = ImplicitGradientTable<S>;
    sum = T{};
    int row = order * (order + 3) / 2;
    for (int k = order; k >= 1; --k) {
      T in_x{};
      for (int j = k; j >= 0; --j) {
        --row;
        T in_l{};
        for (int n = Table::degree; n >= 0; --n)
          in_l = in_l * l + Table::at(row, n);
        in_x = in_x * x + in_l;
      }
      sum = sum * inv_a + in_x;
    }
  }

  // The order of the expansion that is needed at this a. |Q_kj| < 0.1, so the rest is below eps/2.
  template <class T> static HD int implicit_gradient_order(T a) {
    if (a < T(100))
      return ImplicitGradientTable<T>::order;
    return is_float32<T> ? 2 : a >= T(1000) ? 4 : 6;
  }

private:
  // Bounds the number of steps that raise an argument, whatever it is.
  template <class T> static HD_INLINE T at_least_zero(T x) { return x > T(0) ? x : T(0); }

  template <class T> struct Range {
    static constexpr T smallest = std::numeric_limits<T>::min();
    static constexpr T stirling = is_float32<T> ? T(5) : T(7); // remainder to 4e-10, 1e-16 absolute
    static constexpr T antipode = is_float32<T> ? T(1e-30) : T(1e-290);
  };

  // log p(mu) = b log(s/(4 pi)) - a m(v) - log1p(v)/2 + Delta(s) - Delta(a), v = b/a,
  // m(v) = v - log1p(v): Stirling's series with its linear terms cancelled by hand; a and s are
  // raised by n where a is small, minus log prod_{i<n} (1 + b/(a + i)). Rounding is of size b,
  // which matters only near the zero of log p(mu) for 8 <= d < 60.
  template <class T> static HD T at_mode_by_stirling(T kappa, T b) {
    const T lack = Range<T>::stirling - at_least_zero(b + kappa);
    const T n = lack > T(0) ? std::ceil(lack) : T(0);
    T product = T(1);
    for (T i = T(0); i < n; i += T(1))
      product *= T(1) + b / (kappa + (b + i));
    const T a = kappa + (b + n), s = kappa + (b + b + n), v = b / a;
    constexpr T four_pi = T(4 * kPi);
    const T remainder = stirling_remainder(T(1) / s) - stirling_remainder(T(1) / a);
    return b * std::log(s / four_pi) -
           ((a * x_minus_log1p(v) + T(0.5) * std::log1p(v)) - remainder + std::log(product));
  }

  // log p(mu) = c0 + delta log1p(b/a) + (a0 - 1/2) m(delta/a0) - (s0 - 1/2) m(delta/s0)
  //               + delta b/(2 a0 s0) + Delta(s) - Delta(s0) - Delta(a) + Delta(a0),
  // delta = kappa - kappa0: Stirling's series for log Gamma(s)/Gamma(s0) - log Gamma(a)/Gamma(a0),
  // with c0 = log p(mu) at the base kappa0. Every term vanishes with delta. For d < 19 the base
  // lies within 1/16 of the zero of log p(mu); from there on log p(mu) >= -log_area > 0, and the
  // base is kappa = 0. For -0.4 <= delta/a0 <= 0.85, where m is a series.
  template <class T> static HD T at_mode_near_zero(T kappa, T b, T kappa0, T c0) {
    const T delta = kappa - kappa0, a = b + kappa, s = kappa + (b + b), a0 = b + kappa0,
            s0 = a0 + b;
    const T inv_a0 = T(1) / a0, inv_s0 = T(1) / s0;
    const T remainder = (stirling_remainder(T(1) / s) - stirling_remainder(inv_s0)) -
                        (stirling_remainder(T(1) / a) - stirling_remainder(inv_a0));
    const T second = (a0 - T(0.5)) * x_minus_log1p(delta * inv_a0) -
                     (s0 - T(0.5)) * x_minus_log1p(delta * inv_s0);
    return c0 + (delta * std::log1p(b / a) +
                 (second + (T(0.5) * delta * b * inv_a0 * inv_s0 + remainder)));
  }
};

} // namespace spherical

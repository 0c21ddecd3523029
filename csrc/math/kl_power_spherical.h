// KL(PS(mu_p, kappa_p) || PS(mu_q, kappa_q)) = B(kappa_p, kappa_q) + kappa_q M(kappa_p, w), where
// B >= 0 and M >= 0.
//
// B is the divergence for equal means, a Bregman divergence of log p(mu). M is what the angle
// between the means adds, w = |mu_p - mu_q|^2/S = sin^2(angle/2), q = 1 - w:
//   M = E_p[log (1 + mu_p . x)/2] - E_p[log (1 + mu_q . x)/2],
// where the second expectation is the Gauss series
//   psi(b) - psi(a + b) - sum_{n >= 1} (-kappa)_n q^n / ((b)_n n),
// which alternates with terms that grow like e^kappa. Its Euler integral does not: with e^{-U} =
// w + q e^{-Y}, V = Y - U = log1p(w expm1(Y)),
//   M      = int_0^inf e^{-b Y - kappa U} (1 - e^{-kappa V}) / (1 - e^{-Y}) dY,
//   dM/dw  = kappa int_0^inf e^{-b Y - (kappa - 1) U} dY,
// with positive integrands. De Cao & Aziz (2020) give no KL between two Power Sphericals; this one
// integrates the binomial series of (1 - q u)^kappa against the Beta weight, u = 1 - e^{-Y}. The
// rule is Gauss-Legendre's with 32 (float) or 64 (double) nodes a panel.
#pragma once
#include "power_spherical.h"
#include "quadrature.h"
#include "stirling.h"
#include "types.h"

namespace spherical {

struct KlPowerSpherical {
  // KL, at least 0. Relative error: see tests/math/test_scalar_math.py.
  template <class T> static HD T kl(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    return same_mean(kappa_p, kappa_q, dim) + kappa_q * mean_gap(kappa_p, dim, means);
  }

  // d KL/d kappa_p = -(kappa_p - kappa_q) d2/dkappa2 log p(mu) + kappa_q dM/dkappa.
  template <class T>
  static HD T kl_dkappa_p(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    return -(kappa_p - kappa_q) * PowerSpherical::log_prob_at_mode_dkappa2(kappa_p, dim) +
           kappa_q * mean_gap_dkappa(kappa_p, dim, means);
  }

  // d KL/d kappa_q = L'(kappa_p) - L'(kappa_q) + M, L = log p(mu).
  template <class T>
  static HD T kl_dkappa_q(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    return digamma_difference_change(dim.b, dim.b + kappa_q, dim.b + kappa_p, kappa_p - kappa_q) +
           mean_gap(kappa_p, dim, means);
  }

  // d KL/d w = kappa_q dM/dw, along sin2 + cos2 = 1.
  template <class T>
  static HD T kl_dsin2(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    return kappa_q * mean_gap_dsin2(kappa_p, dim, means);
  }

  // B(kappa_p, kappa_q) = L(kappa_p) - L(kappa_q) - (kappa_p - kappa_q) L'(kappa_p).
  template <class T> static HD T same_mean(T kappa_p, T kappa_q, const Dim<T> &dim) {
    return bregman_log_gamma_ratio(dim.b, dim.b + kappa_q, dim.b + kappa_p, kappa_p - kappa_q);
  }

  // M(kappa, w); 0 for equal means and for kappa = 0.
  template <class T> static HD T mean_gap(T kappa, const Dim<T> &dim, HalfAngle<T> means) {
    if (means.sin2 == T(0) || kappa == T(0))
      return kappa * means.sin2; // 0, or NaN if the other is
    return integrate_angle(kappa, dim.b, means, [&](const Angle<T> &at) {
      return std::exp(-dim.b * at.y - kappa * at.u) * -std::expm1(-kappa * at.v) / at.fraction;
    });
  }

  // dM/dw. For a < 1 it grows without bound as w -> 0, where w counts as the smallest normal
  // number.
  template <class T> static HD T mean_gap_dsin2(T kappa, const Dim<T> &dim, HalfAngle<T> means) {
    const T smallest = is_float32<T> ? T(1.2e-38) : T(2.3e-308);
    if (means.sin2 < smallest)
      means.sin2 = smallest;
    return kappa * integrate_angle(kappa, dim.b, means, [&](const Angle<T> &at) {
             return std::exp(-dim.b * at.y - (kappa - T(1)) * at.u);
           });
  }

  // dM/dkappa = int_0^inf x/(1 - e^{-x}) e^{-a x} g(x) dx, a = b + kappa, l = -log w,
  //   g(x) = 1 - ((1 - w e^x)/q)^{b - 1} for x < l, 1 beyond:
  // the derivative of the integrand of M, the two parts of which nearly cancel for kappa >> d,
  // brought to one variable x = U and x = Y. Positive for d > 3. Below l by x = expm1(tau)/beta,
  // with tau quadratic towards l, which makes the half-integer power smooth; for d = 2 and small
  // kappa, where g changes sign, from the integrand of M.
  template <class T> static HD T mean_gap_dkappa(T kappa, const Dim<T> &dim, HalfAngle<T> means) {
    const T b = dim.b, a = b + kappa, q = means.cos2;
    if (means.sin2 == T(0))
      return kappa * means.sin2;
    if (b < T(1) && kappa < T(2))
      return integrate_angle(kappa, b, means, [&](const Angle<T> &at) {
        return std::exp(-b * at.y) / at.fraction *
               (at.y * std::exp(-kappa * at.y) - at.u * std::exp(-kappa * at.u));
      });
    const T reach = digits<T>(), l = minus_log(means);
    const T decay = a > T(2) ? a - T(1) : T(0.5) * a, end = reach / decay < l ? reach / decay : l;
    const auto kernel = [&](T x) {
      return x > T(0) ? std::exp(-a * x) * x / -std::expm1(-x) : T(1);
    };
    T sum = T(0) * q; // NaN if the angle is
    if (q > T(0) && b != T(1)) {
      const T beta = (b > T(1) ? b - T(1) : T(0)) * means.sin2 / q + a,
              tau_end = std::log1p(beta * end);
      for (int i = 0; i < Quadrature<T>::size; ++i) {
        const T v = Quadrature<T>::node(i), from_end = tau_end * v * v;
        const T tau = tau_end - from_end, scale = std::exp(tau) / beta, x = std::expm1(tau) / beta;
        const T ratio = means.sin2 * std::expm1(x) / q;
        const T to_l = (l - end) + std::exp(tau_end) / beta * -std::expm1(-from_end);
        const T log_ratio = ratio < T(0.5) ? std::log1p(-ratio) : std::log(-std::expm1(-to_l) / q);
        sum += Quadrature<T>::weight(i) * T(2) * v * tau_end * scale * kernel(x) *
               -std::expm1((b - T(1)) * log_ratio);
      }
    }
    if (l <= end || b == T(1)) {
      const T length = reach / a;
      T tail = T(0);
      for (int i = 0; i < Quadrature<T>::size; ++i)
        tail += Quadrature<T>::weight(i) * kernel(l + length * Quadrature<T>::node(i));
      sum += length * tail;
    }
    return sum;
  }

private:
  // The integrands fall below e^-digits of their largest value where the integrals are cut.
  template <class T> static HD T digits() { return is_float32<T> ? T(20) : T(40); }

  // -log w from whichever of w = sin2 and q = cos2 is the smaller.
  template <class T> static HD T minus_log(HalfAngle<T> means) {
    return means.cos2 < means.sin2 ? -std::log1p(-means.cos2) : -std::log(means.sin2);
  }

  // Y with e^{-U} = w + q e^{-Y}, V = Y - U, fraction = 1 - e^{-Y}.
  template <class T> struct Angle {
    T y, u, v, fraction;
  };

  template <class T> static HD Angle<T> angle(T y, HalfAngle<T> means) {
    const T fraction = -std::expm1(-y);
    const T v = y > T(30) ? y + std::log(means.sin2 + means.cos2 * std::exp(-y))
                          : std::log1p(means.sin2 * std::expm1(y));
    const T u = means.sin2 < T(0.5) ? y - v : -std::log1p(-means.cos2 * fraction);
    return {y, u, v, fraction};
  }

  // int_0^inf integrand(Y) dY, by Y = start + expm1(tau)/beta, tau uniform, on one panel; on two,
  // split at -log w, where U stops growing, if that is large and still carries weight.
  template <class T, class F>
  static HD T integrate_angle(T kappa, T b, HalfAngle<T> means, const F &integrand) {
    const T reach = digits<T>(), l = minus_log(means), beta = kappa * means.sin2 + b + T(1);
    const T rate = b + kappa * means.cos2 - T(1), end = reach / (rate > T(1e-3) ? rate : T(1e-3));
    const bool split = means.sin2 < T(0.25) && end > l;
    T start = T(0), length = l, scale = beta, sum = T(0);
    if (!split) {
      length = l + std::log1p(means.sin2) + reach / b;
      length = end < length ? end : length;
      if (kappa * l < reach && length < reach / b)
        length = reach / b;
    }
    // One call in the source: it is large, and compiled for each integrand.
    for (int panel = 0; panel < (split ? 2 : 1); ++panel) {
      sum += integrate_panel(start, length, scale, means, integrand);
      const T rest = reach - rate * l;
      start = l;
      length = (rest < T(4) ? T(4) : rest < reach ? rest : reach) / b;
      scale = T(1);
    }
    return sum;
  }

  template <class T, class F>
  static HD T integrate_panel(T start, T length, T beta, HalfAngle<T> means, const F &integrand) {
    const T tau_end = std::log1p(beta * length);
    T sum = T(0);
    for (int i = 0; i < Quadrature<T>::size; ++i) {
      const T tau = tau_end * Quadrature<T>::node(i);
      sum += Quadrature<T>::weight(i) * std::exp(tau) *
             integrand(angle(start + std::expm1(tau) / beta, means));
    }
    return sum * tau_end / beta;
  }
};

inline KlPowerSpherical divergence(PowerSpherical, PowerSpherical) { return {}; }

} // namespace spherical

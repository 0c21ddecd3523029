// KL(vMF(mu_p, kappa_p) || vMF(mu_q, kappa_q)), any two mean directions.
//
//   KL = integral from kappa_q to kappa_p of (s - kappa_q) A_d'(s) ds + 2 kappa_q A_d(kappa_p) w,
// w = sin^2(angle/2) = (1 - mu_p . mu_q)/2. The integral is the Bregman divergence of -log C,
// written so that it is a sum of positive terms for either order of the two concentrations. The
// textbook form log C_p - log C_q + (kappa_p - kappa_q) A cancels when they are close or small
// against d.
#pragma once
#include "von_mises_fisher.h"

namespace spherical {

// means: half_angle between the two mean directions, so that means.sin2 = w.
struct KlVonMisesFisher {
  template <class T> static HD T kl(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    return same_mean(kappa_p, kappa_q, dim) + kl_dsin2(kappa_p, kappa_q, dim, means) * means.sin2;
  }

  // [(kappa_p - kappa_q) + 2 kappa_q w] A_d'(kappa_p).
  template <class T>
  static HD T kl_dkappa_p(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    const T gap = kappa_p - kappa_q + T(2) * kappa_q * means.sin2;
    return gap * moments(kappa_p, dim).variance;
  }

  // A_d(kappa_q) - A_d(kappa_p) + 2 A_d(kappa_p) w; the difference from 1 - A_d where that is
  // smaller.
  template <class T>
  static HD T kl_dkappa_q(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T> means) {
    const Moments<T> p = moments(kappa_p, dim), q = moments(kappa_q, dim);
    const T gap = p.mean < T(0.5) ? q.mean - p.mean : p.one_minus_mean - q.one_minus_mean;
    return gap + T(2) * p.mean * means.sin2;
  }

  // d/dw = 2 kappa_q A_d(kappa_p).
  template <class T> static HD T kl_dsin2(T kappa_p, T kappa_q, const Dim<T> &dim, HalfAngle<T>) {
    return T(2) * kappa_q * moments(kappa_p, dim).mean;
  }

  // The integral above with s = b sinh(tau): in tau the integrand varies on the scale 1 from kappa
  // = 0 to infinity, and ds/dtau = sqrt(b^2 + s^2). s is stepped up from the lower concentration l
  // and its distance to the upper one u down from there, with the range of tau from
  //   sinh(tau_u - tau_l) = (u^2 - l^2)/(u sqrt(b^2 + l^2) + l sqrt(b^2 + u^2)),
  // so that nothing cancels. Gauss-Legendre, 32 nodes (float) or 64 (double) per panel of at most 6
  // in tau. Relative error for d = 2 .. 1e6, kappa = 0 .. 1e7: 1.8e-6 (float), 4e-15 (double).
  template <class T> static HD T same_mean(T kappa_p, T kappa_q, const Dim<T> &dim) {
    const T b = dim.b;
    const bool rising = kappa_q < kappa_p;
    const T lower = rising ? kappa_q : kappa_p, upper = rising ? kappa_p : kappa_q;
    const T c_l = std::sqrt(b * b + lower * lower), c_u = std::sqrt(b * b + upper * upper);
    const T range =
        std::asinh((upper - lower) / c_u * ((upper + lower) / (upper * (c_l / c_u) + lower)));
    if (!(range > T(0)))
      return kappa_p - kappa_q; // 0, or NaN as given
    const int panels = 1 + static_cast<int>(range * T(1.0 / 6));
    const T width = range / T(panels);
    T total = T(0);
    for (int panel = 0; panel < panels; ++panel) {
      for (int i = 0; i < Quadrature<T>::size; ++i) {
        const T x = Quadrature<T>::node(i);
        const T up = sinh_step(lower, b, width * (T(panel) + x)), s = lower + up;
        const T off = rising ? up : sinh_step(s, b, width * (T(panels - panel) - x));
        total +=
            Quadrature<T>::weight(i) * off * std::sqrt(b * b + s * s) * moments(s, dim).variance;
      }
    }
    return total * width;
  }

private:
  // b sinh(tau + e) - b sinh(tau) for e >= 0 and s = b sinh(tau) >= 0, as positive terms.
  template <class T> static HD T sinh_step(T s, T b, T e) {
    const T half = T(0.5) * e, sinh_half = std::sinh(half), c = std::sqrt(b * b + s * s);
    return T(2) * sinh_half * (s * sinh_half + c * std::cosh(half));
  }
};

inline KlVonMisesFisher divergence(VonMisesFisher, VonMisesFisher) { return {}; }

} // namespace spherical

// KL(SC(mu_p, p) || SC(mu_q, q)) between two spherical Cauchy distributions.
//
// A Moebius map of the ball carries the first to the uniform distribution. It carries the second to
// a spherical Cauchy whose concentration r is the pseudo-hyperbolic distance between p mu_p and
// q mu_q, and KL(uniform || SC(r)) = KL(SC(r) || uniform) (docs/numerics.md#spherical-cauchy):
//
//   D = |p mu_p - q mu_q|^2 = (p - q)^2 + 4 p q sin2,  P = (1 - p^2) (1 - q^2),
//   x = (2 r/(1 - r^2))^2 = 4 D (D + P)/P^2,
//   KL = b E[log1p(x/(1 + w))], with w as in spherical_cauchy.h.
#pragma once
#include "spherical_cauchy.h"

namespace spherical {

struct KlSphericalCauchy {
  template <class T> static HD T kl(T p, T q, const Dim<T> &dim, HalfAngle<T> means) {
    return SphericalCauchy::kl_at(Distance<T>(p, q, means).x(), dim.b);
  }

  template <class T> static HD T kl_dkappa_p(T p, T q, const Dim<T> &dim, HalfAngle<T> means) {
    return along(Distance<T>(p, q, means), dim, drho(p, q, means));
  }

  template <class T> static HD T kl_dkappa_q(T p, T q, const Dim<T> &dim, HalfAngle<T> means) {
    return along(Distance<T>(p, q, means), dim, drho(q, p, means));
  }

  template <class T> static HD T kl_dsin2(T p, T q, const Dim<T> &dim, HalfAngle<T> means) {
    return along(Distance<T>(p, q, means), dim, T(4) * p * q);
  }

private:
  template <class T> struct Distance {
    T d, p; // D and P

    HD Distance(T rho_p, T rho_q, HalfAngle<T> means)
        : d((rho_p - rho_q) * (rho_p - rho_q) + T(4) * rho_p * rho_q * means.sin2),
          p(SphericalCauchy::one_minus_square(rho_p) * SphericalCauchy::one_minus_square(rho_q)) {}
    HD T x() const { return T(4) * (d / p) * ((d + p) / p); }
  };

  // P d/drho (D/P) with the other concentration fixed.
  template <class T> static HD T drho(T rho, T other, HalfAngle<T> means) {
    const T d = (rho - other) * (rho - other) + T(4) * rho * other * means.sin2;
    return T(2) * (rho - other) + T(4) * other * means.sin2 +
           T(2) * rho * d / SphericalCauchy::one_minus_square(rho);
  }

  // The derivative of KL in a direction along which P d(D/P) is `slope`:
  // b E[1/(1 + x + w)] dx/d(D/P) d(D/P), dx/d(D/P) = 4 (2 D/P + 1).
  template <class T> static HD T along(const Distance<T> &at, const Dim<T> &dim, T slope) {
    const T x = at.x();
    const T mean =
        SphericalCauchy::expectation(dim.b, [x](T w) { return T(1) / ((T(1) + x) + w); });
    return dim.b * mean * T(4) * ((at.d + at.d + at.p) / at.p) * (slope / at.p);
  }
};

inline KlSphericalCauchy divergence(SphericalCauchy, SphericalCauchy) { return {}; }

} // namespace spherical

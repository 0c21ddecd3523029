// The types that scalar functions take and return: a dimension, a half angle, the coefficients of a
// sample. Torch-free.
#pragma once
#include "portable.h"

namespace spherical {

// The end of the domain of a concentration that has no bound of its own. Up to it every function of
// every family is accurate in float and in double. A power of two is a number of every type.
constexpr double kUpperBound = 0x1p50;

// The concentration that the functions of a family compute with. It is NaN outside of the domain
// [0, Family::upper_bound), and -0 becomes 0. Every kernel reads a concentration through this
// function, so that the functions see a number of the domain or NaN, and return NaN for NaN.
template <class T> HD_INLINE T in_domain(T kappa, T upper_bound) {
  return kappa >= T(0) && kappa < upper_bound ? std::fabs(kappa) : T(NAN);
}
template <class Family, class T> HD_INLINE T in_domain(T kappa) {
  return in_domain(kappa, T(Family::upper_bound));
}

// The dimension d of the ambient space of S^{d-1}, with what follows from it. make_dim computes in
// long double on the host. So no kernel evaluates lgamma(d/2), and the terms of log_area, which
// cancel near d = 20, leave a value that is right to the last digit of double.
template <class T> struct Dim {
  T d;
  T b;        // (d - 1) / 2
  T log_area; // log surface area of S^{d-1} = log(2 pi^{d/2} / Gamma(d/2))
};

// log Gamma(x), x > 0. std::lgamma writes the sign of Gamma(x) to a variable that threads share.
inline long double log_gamma(long double x) {
#ifdef __GLIBC__
  int sign;
  return lgammal_r(x, &sign);
#else
  return std::lgamma(x);
#endif
}

template <class T, class S> Dim<T> dim_as(const Dim<S> &dim) {
  return {static_cast<T>(dim.d), static_cast<T>(dim.b), static_cast<T>(dim.log_area)};
}
template <class T> Dim<T> make_dim(int64_t d) {
  const long double half = 0.5L * static_cast<long double>(d);
  const long double log_area = std::log(2.0L) + half * std::log(kPi) - log_gamma(half);
  return dim_as<T>(Dim<long double>{static_cast<long double>(d), half - 0.5L, log_area});
}

// The angle theta between x and mu, with t = cos theta, as the two fractions that keep their
// relative accuracy at either pole (docs/numerics.md#half-angle):
//   sin2 = sin^2(theta/2) = (1 - t)/2,   cos2 = cos^2(theta/2) = (1 + t)/2
template <class T> struct HalfAngle {
  T sin2;
  T cos2;
};

// A sample is x = t mu + r g', where g' is the part of a standard normal vector g that is
// orthogonal to mu (docs/numerics.md#sampler). A family's sampler returns t and r. It is given
//   s = |g'|^2 / 2 ~ Gamma(b),   p = g . mu ~ N(0, 1), independent of g',
// and t^2 + 2 s r^2 = 1 holds.
template <class T> struct SampleCoefficients {
  T t;
  T r;
};

} // namespace spherical

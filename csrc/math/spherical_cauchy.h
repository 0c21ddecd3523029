// Spherical Cauchy on S^{d-1} (Kato and McCullagh 2020): functions of rho in [0, 1), b = (d - 1)/2.
//
//   p(x) = Gamma(d/2)/(2 pi^(d/2)) [(1 - rho^2)/(1 + rho^2 - 2 rho t)]^(d-1).
//
// The information near rho = 1 is in 1 - rho, so every function is written in gap = 1 - rho, which
// is exact from rho = 1/2 on:
//
//   1 + rho^2 - 2 rho t = gap^2 + 4 rho sin2 = gap^2 cos2 + (1 + rho)^2 sin2.
//
// The second form says that u = log(cos2/sin2) is that of the uniform distribution, shifted by
// 2 log((1 + rho)/gap). docs/numerics.md#spherical-cauchy derives all that follows.
#pragma once
#include "elementary.h"
#include "types.h"

namespace spherical {

struct SphericalCauchy {
  static constexpr const char *name = "spherical_cauchy";
  static constexpr double upper_bound = 1.0;

  // The type in which expectations are computed.
  template <class T> using Wide = std::conditional_t<is_float32<T>, double, T>;

  // log p(mu) = (d - 1) log((1 + rho)/(1 - rho)) - log_area.
  template <class T> static HD T log_prob_at_mode(T rho, const Dim<T> &dim) {
    return log_prob_at_mode_over_uniform(rho, dim) - dim.log_area;
  }

  // d/drho log p(mu) = 2 (d - 1)/(1 - rho^2).
  template <class T> static HD T log_prob_at_mode_dkappa(T rho, const Dim<T> &dim) {
    return T(4) * dim.b / one_minus_square(rho);
  }

  // d2/drho2 log p(mu) = 4 (d - 1) rho/(1 - rho^2)^2.
  template <class T> static HD T log_prob_at_mode_dkappa2(T rho, const Dim<T> &dim) {
    const T square = one_minus_square(rho);
    return T(8) * dim.b * rho / square / square;
  }

  // log p(mu) + log_area = (d - 1) log1p(2 rho/(1 - rho)).
  template <class T> static HD T log_prob_at_mode_over_uniform(T rho, const Dim<T> &dim) {
    return T(2) * dim.b * log1p_of(T(2) * rho / gap(rho));
  }

  // log p(x) - log p(mu) = -(d - 1) log1p(4 rho sin2/(1 - rho)^2). It is finite at the antipode.
  template <class T> static HD T log_prob_ratio(T rho, const Dim<T> &dim, HalfAngle<T> at) {
    const T gap = SphericalCauchy::gap(rho);
    return T(-2) * dim.b * log1p_of(T(4) * rho * at.sin2 / (gap * gap));
  }

  // d/dt log p(x) = 2 (d - 1) rho/(1 + rho^2 - 2 rho t).
  template <class T> static HD T log_prob_ratio_dt(T rho, const Dim<T> &dim, HalfAngle<T> at) {
    return T(4) * dim.b * rho / distance(rho, at);
  }

  // d/drho (log p(x) - log p(mu)) = -4 (d - 1) (1 + rho) sin2/((1 - rho) (1 + rho^2 - 2 rho t)).
  template <class T> static HD T log_prob_ratio_dkappa(T rho, const Dim<T> &dim, HalfAngle<T> at) {
    return T(-8) * dim.b * (T(1) + rho) / gap(rho) * (at.sin2 / distance(rho, at));
  }

  // A = E[t] = 2 rho/(1 + rho^2) (1 - V), V = E[1 - t^2]/(d - 1).
  template <class T> static HD T mean_resultant_length(T rho, const Dim<T> &dim) {
    return T(2) * rho / (T(1) + rho * rho) * (T(1) - variance_orthogonal(rho, dim));
  }

  // dA/drho = 2 (d - 1) V/(1 - rho^2).
  template <class T> static HD T mean_resultant_length_dkappa(T rho, const Dim<T> &dim) {
    return T(4) * dim.b / one_minus_square(rho) * variance_orthogonal(rho, dim);
  }

  // V = E[1 - t^2]/(d - 1) = E[w/(1 + q + w)], the variance in each direction orthogonal to mu.
  template <class T> static HD T variance_orthogonal(T rho, const Dim<T> &dim) {
    const Wide<T> more = 1 + q_of(Wide<T>(rho));
    const Wide<T> rise = std::log1p(2 * std::sqrt(more)); // more than asinh of the root
    return static_cast<T>(
        expectation(Wide<T>(dim.b), [more](Wide<T> w) { return w / (more + w); }, rise));
  }

  // KL(p || uniform) = b E[log1p(q/(1 + w))].
  template <class T> static HD T kl_uniform(T rho, const Dim<T> &dim) {
    return static_cast<T>(kl_at(q_of(Wide<T>(rho)), Wide<T>(dim.b)));
  }

  // d/drho KL(p || uniform) = 2 (d - 1) A/(1 - rho^2).
  template <class T> static HD T kl_uniform_dkappa(T rho, const Dim<T> &dim) {
    return T(4) * dim.b / one_minus_square(rho) * mean_resultant_length(rho, dim);
  }

  // The Moebius map of the ball that carries 0 to rho mu maps the uniform point g/|g| to a sample:
  //   t = ((1 + rho^2) p + 2 rho |g|)/D,  r = (1 - rho^2)/D,
  //   D = (1 - rho)^2 |g| + 2 rho (|g| + p).
  // Nothing is rejected, so `noise` is not used.
  template <class T, class Noise>
  static HD SampleCoefficients<T> sample(T rho, const Dim<T> &, T p, T s, const Noise &) {
    const T length = std::sqrt(p * p + (s + s)), gap = SphericalCauchy::gap(rho);
    const T above = p > T(0) ? length + p : (s + s) / (length - p); // |g| + p
    const T low = gap * gap * length, inverse = T(1) / (low + T(2) * rho * above);
    return {((T(1) + rho * rho) * above - low) * inverse, gap * (T(1) + rho) * inverse};
  }

  // (dt/drho)/(1 - t^2) = 2/(1 - rho^2) at a fixed quantile of t: u moves as fast as its shift.
  template <class T> static HD T implicit_gradient(T rho, const Dim<T> &, HalfAngle<T>) {
    return T(2) / one_minus_square(rho);
  }

  // KL = b E[log1p(q/(1 + w))] of a distribution at the pseudo-hyperbolic distance r from another,
  // with q = (2 r/(1 - r^2))^2; see kl_spherical_cauchy.h.
  template <class T> static HD T kl_at(T q, T b) {
    return b * expectation(b, [q](T w) { return log1p_of(q / (T(1) + w)); });
  }

  // E[f(w)], w = u^2/(1 - u^2) for the cosine u of a uniform point. With u = tanh x, w = sinh^2 x,
  // the integrand is analytic for |Im x| < pi/2, so the midpoint rule in x converges geometrically.
  // It ends where sech^(2b) x is below e^-40; for an f that grows, no faster than w and up to the
  // given x, that much further, or where sech^(2b - 2) x is below e^-40. There are at most 385
  // nodes, the smallest weight first, so that few of the sums are rounded at full size. Callers
  // compute in Wide<T>, because an error of w counts b times in its weight.
  template <class T, class F> static HD T expectation(T b, const F &f, T grows_up_to = T(0)) {
    const T step = T(0.43) / std::sqrt(b + T(4)), further = reach_of(b) + grows_up_to;
    T reach = reach_of(b - T(1));
    reach = further < reach ? further : reach; // which NaN is not
    T total = T(0), weights = T(0);
    for (int i = static_cast<int>(reach / step); i >= 0; --i) {
      const T sinh = std::sinh((T(i) + T(0.5)) * step), w = sinh * sinh;
      const T weight = exp_of(-b * log1p_of(w));
      weights += weight;
      total += weight * f(w);
    }
    return total / weights;
  }

  // 1 - rho
  template <class T> static HD_INLINE T gap(T rho) { return T(1) - rho; }

  // 1 - rho^2
  template <class T> static HD_INLINE T one_minus_square(T rho) { return gap(rho) * (T(1) + rho); }

private:
  // The x from which sech^(2 decay) x is below e^-40, or 78 if that is less.
  template <class T> static HD T reach_of(T decay) {
    constexpr T longest = T(78);
    const T y = T(20) / decay; // acosh(e^y)
    return decay * longest > T(20) ? y + std::log1p(std::sqrt(-std::expm1(T(-2) * y))) : longest;
  }

  // 1 + rho^2 - 2 rho t = |x - rho mu|^2
  template <class T> static HD_INLINE T distance(T rho, HalfAngle<T> at) {
    const T gap = SphericalCauchy::gap(rho);
    return gap * gap + T(4) * rho * at.sin2;
  }

  // q = (2 rho/(1 - rho^2))^2
  template <class T> static HD T q_of(T rho) {
    const T root = T(2) * rho / one_minus_square(rho);
    return root * root;
  }
};

} // namespace spherical

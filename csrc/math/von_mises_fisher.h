// von Mises-Fisher: p(x) = C(kappa) e^(kappa t), t = mu . x (Mardia & Jupp 2000, eq. 9.3.4).
//
// With sin2 = (1 - t)/2 the density is written as p(x) = p(mu) e^(-2 kappa sin2), where
// log p(mu) = log C + kappa: the two terms of size kappa in the textbook form never appear.
// b = (d - 1)/2, v = d/2 - 1, m = d - 1 = 2b. A = A_d(kappa) = I_{v+1}(kappa)/I_v(kappa) = E[t].
// Error bounds are the largest seen against mpmath on grids and on random points.
#pragma once
#include "elementary.h"
#include "exponential_form.h"
#include "quadrature.h"
#include "stirling.h"
#include "von_mises_fisher_moments.h"
#include "von_mises_fisher_sampler.h"

namespace spherical {

struct VonMisesFisher : ExponentialForm<VonMisesFisher>, VonMisesFisherSampler {
  using Identities = ExponentialForm<VonMisesFisher>;
  static constexpr const char *name = "von_mises_fisher";
  static constexpr double upper_bound = kUpperBound;

  // log p(mu) = log C + kappa; for d = 3 log(kappa/(2 pi (1 - e^(-2 kappa)))).
  template <class T> static HD T log_prob_at_mode(T kappa, const Dim<T> &dim) {
    if (dim.d == T(3)) {
      const T half = kappa > T(0) ? kappa / -expm1_of(T(-2) * kappa) : T(0.5) + kappa;
      return log_of(half * T(0.5L / kPi));
    }
    return moments(kappa, dim).log_prob_at_mode;
  }

  // d/dkappa log p(mu) = 1 - A_d = E[1 - t] > 0; for d = 3 also 1/kappa - 2/(e^(2 kappa) - 1),
  // whose terms nearly cancel below kappa = 1.
  template <class T> static HD T log_prob_at_mode_dkappa(T kappa, const Dim<T> &dim) {
    if (dim.d == T(3))
      return one_minus_mean_on_sphere(kappa);
    return moments(kappa, dim).one_minus_mean;
  }

  // d2/dkappa2 log p(mu) = -A_d' = -Var[t] < 0.
  template <class T> static HD T log_prob_at_mode_dkappa2(T kappa, const Dim<T> &dim) {
    return -moments(kappa, dim).variance;
  }

  // E[t] = A_d.
  template <class T> static HD T mean_resultant_length(T kappa, const Dim<T> &dim) {
    return moments(kappa, dim).mean;
  }

  // d/dkappa A_d = A_d', the variance of t.
  template <class T> static HD T mean_resultant_length_dkappa(T kappa, const Dim<T> &dim) {
    return moments(kappa, dim).variance;
  }

  // log p(mu) + log_area: for small kappa by the identity of the exponential form.
  template <class T> static HD T log_prob_at_mode_over_uniform(T kappa, const Dim<T> &dim) {
    return kappa < T(1) ? Identities::log_prob_at_mode_over_uniform(kappa, dim)
                        : moments(kappa, dim).log_prob_at_mode_over_uniform;
  }

  // KL(vMF(kappa) || uniform) = kappa A - log 0F1(; v + 1; kappa^2/4) >= 0, about kappa^2/(2d) for
  // small kappa. Of the three forms, each is used where no term is much larger than the result:
  //   kappa < 1, or kappa < d and R = sqrt(v^2 + kappa^2) < Debye radius: the power series
  //     0F1 = 1 + sum_n u_n (DLMF 10.25.2), kappa A = 2 sum n u_n / 0F1, which leaves a positive
  //     first term
  //   v < 12: log p(mu) + log_area - kappa (1 - A)
  //   otherwise, where R >= Debye radius: its expansion with the terms of size kappa and v
  //     cancelled on paper,
  //     KL = v log1p(w) + log(R/v)/2 - q (1/2 + first) - (value + Delta(v)),
  //     w = (R - v)/2v, q = (kappa/R)^2, Delta = Stirling's remainder = -value at kappa = 0
  template <class T> static HD T kl_uniform(T kappa, const Dim<T> &dim) {
    const T v = dim.b - T(0.5), r2 = v * v + kappa * kappa, r = std::sqrt(r2);
    if (kappa < T(1) || (kappa < dim.d && r < Debye<T>::radius)) {
      const T x = T(0.25) * kappa * kappa, tiny = is_float32<T> ? T(1e-9) : T(1e-18);
      T term = T(1), sum = T(0), moment = T(0), n = T(0);
      do {
        T terms = T(0), moments = T(0);
        for (int i = 0; i < Kummer<T>::group; ++i) {
          n += T(1);
          term *= x / (n * (v + n));
          terms += term;
          moments += n * term;
        }
        sum += terms;
        moment += moments;
      } while (n * term > tiny * moment);
      return T(2) * moment / (T(1) + sum) - std::log1p(sum);
    }
    if (v < T(12)) {
      const Moments<T> a = moments(kappa, dim);
      return a.log_prob_at_mode_over_uniform - kappa * a.one_minus_mean;
    }
    const T inv_r = T(1) / r, p = v * inv_r, ratio = kappa / v, q = kappa * inv_r * (kappa * inv_r);
    const DebyeSums<T> sums(inv_r, p * p, Debye<T>::order(r));
    return v * std::log1p(T(0.5) * ratio * (kappa / (r + v))) +
           (T(0.25) * std::log1p(ratio * ratio) - q * (T(0.5) + sums.first) -
            (sums.value + stirling_remainder(T(1) / v)));
  }

  // log p(x) - log p(mu) = -kappa (1 - t) = -2 kappa sin2.
  template <class T> static HD T log_prob_ratio(T kappa, const Dim<T> &, HalfAngle<T> c) {
    return T(-2) * kappa * c.sin2;
  }

  // d/dt (-2 kappa sin2) = kappa.
  template <class T> static HD T log_prob_ratio_dt(T kappa, const Dim<T> &, HalfAngle<T>) {
    return kappa;
  }

  // d/dkappa (-2 kappa sin2) = -2 sin2.
  template <class T> static HD T log_prob_ratio_dkappa(T, const Dim<T> &, HalfAngle<T> c) {
    return T(-2) * c.sin2;
  }

  // (dt/dkappa)/(1 - t^2) at a fixed quantile of t = -(dF/dkappa)/(f (1 - t^2)), F and f the
  // distribution function and density of t. Two forms:
  //   R = sqrt(m^2 + 4 kappa^2) large: perturbation of the equation of Stein in 1/R
  //   otherwise, and in the far tail below the mode: quadrature of a positive integrand
  // Relative error for d = 2 .. 1e6, kappa = 0 .. 1e7, quantiles 1e-5 to 1 - 1e-5: 1.7e-14 (double)
  // and 6.3e-7 (float) on the table of the tests. It is finite on all of sin2 = 0 .. 1.
  template <class T> static HD T implicit_gradient(T kappa, const Dim<T> &dim, HalfAngle<T> c) {
    const ImplicitGradientPoint<T> point(kappa, dim, c);
    if (!point.expands())
      return implicit_gradient_quadrature(kappa, dim, c, moments(kappa, dim));
    const T m = dim.b + dim.b;
    T value;
    if (point.r < ImplicitGradient<T>::r_short)
      implicit_gradient_expansion<ImplicitGradient<T>::order>(point.r, m, point.c, point.u, value);
    else
      implicit_gradient_expansion<ImplicitGradient<T>::order_short>(point.r, m, point.c, point.u,
                                                                    value);
    return value;
  }

  // The point of the expansion, with r, c and u as in implicit_gradient_expansion.
  template <class T> struct ImplicitGradientPoint {
    T r, c, u;

    HD_INLINE ImplicitGradientPoint(T kappa, const Dim<T> &dim, HalfAngle<T> at) {
      const T m = dim.b + dim.b;
      r = std::sqrt(m * m + T(4) * kappa * kappa);
      c = kappa / r;
      const T mode_sin2 = T(0.5) * (m + m * (m / (r + T(2) * kappa))) / (m + r);
      const T e = T(2) * (mode_sin2 - at.sin2);
      u = e / (T(1) + c * e);
    }
    HD_INLINE bool expands() const {
      return r >= ImplicitGradient<T>::r_min && u >= T(-1.5) && u <= T(0.8);
    }
  };

  // The expansion to 1/r^order is used from r_min on, and to 1/r^order_short from r_short on: the
  // first term left out is then below one rounding on the quantiles above.
  template <class T> struct ImplicitGradient {
    static constexpr T r_min = is_float32<T> ? T(34) : T(100);
    static constexpr T r_short = is_float32<T> ? T(128) : T(400);
    static constexpr int order = is_float32<T> ? 7 : 10;
    static constexpr int order_short = is_float32<T> ? 3 : 6;
  };

  // (1/R) sum_k R^-k Q_k(u), with w = 2 kappa/(m + R) near the mode of t, c = kappa/R, h = m/R,
  //   u = (t - w)/(1 + c (t - w)),  Q_0 = 1 - c u,  Q_k = (1 - c u)^2 [G(u) Q_{k-1}' - const]/u,
  //   G(u) = 2h/(1 + h) - 4c u - h (1 + h)/2 u^2.
  // tau = dt/dkappa solves ((log f)' tau + tau') = A - t. In u its leading coefficient is of order
  // R, and a regular perturbation keeps every Q_k a polynomial of degree 2k + 1: "const" is G Q' at
  // u = 0, which makes the division by u exact. Once unrolled, the loops index the arrays by
  // constants, so that these live in registers. T is S, or a vector of S; the result goes to
  // `total`.
  template <int order, class S, class T>
  static HD_INLINE void implicit_gradient_expansion(const T &r, S m, const T &c, const T &u,
                                                    T &total) {
    const T inv_r = S(1) / r, h = m * inv_r;
    const T g0 = S(2) * h / (S(1) + h), g1 = S(-4) * c, g2 = S(-0.5) * h * (S(1) + h);
    T q[2 * order + 2] = {S(1) + T{}, -c};
    T scale = inv_r;
    total = S(1) - c * u;
    UNROLL
    for (int k = 1; k <= order; ++k) {
      UNROLL
      for (int i = 0; i < 2 * k; ++i) { // [G Q' - const]/u, in place from the bottom
        T s = g2 * S(i) * q[i];
        if (i + 1 < 2 * k)
          s += g1 * S(i + 1) * q[i + 1];
        if (i + 2 < 2 * k)
          s += g0 * S(i + 2) * q[i + 2];
        q[i] = s;
      }
      UNROLL
      for (int i = 2 * k + 1; i >= 0; --i) { // times (1 - c u)^2, in place from the top
        T s{};
        if (i < 2 * k)
          s = q[i];
        if (i >= 1 && i - 1 < 2 * k)
          s -= S(2) * c * q[i - 1];
        if (i >= 2)
          s += c * c * q[i - 2];
        q[i] = s;
      }
      T value{};
      UNROLL
      for (int i = 2 * k + 1; i >= 0; --i)
        value = value * u + q[i];
      total += scale * value;
      scale *= inv_r;
    }
    total *= inv_r;
  }

  // (1/((1 - t^2) f(t))) integral |t' - A| f(t') dt' from t to the nearer pole, by Gauss-Legendre.
  // `near` is the half-angle fraction to that pole, and `far` the other. A point of the integral is
  // at the fraction near g^2 from the pole, 0 <= g <= 1, which absorbs the factor (1 -+ t')^(b-1).
  // With l = near (1 - g^2), which is taken from 1 - g, since 2 kappa l is of size 20, the
  // integrand is
  //   e^L (off + l) g,  L = (b - 1) log u +- 2 kappa l,  u = (1 + l/far) g^2,
  //   off = |sin2 - E[sin2]|,
  // and its part with L < -depth is cut off: above by the bound L <= -(1 - g^2) decay, below the
  // mode by solving L = -depth to first order.
  template <class T>
  static HD T implicit_gradient_quadrature(T kappa, const Dim<T> &dim, HalfAngle<T> c,
                                           const Moments<T> &a) {
    const T mean_sin2 = T(0.5) * a.one_minus_mean, mean_cos2 = T(0.5) * (T(1) + a.mean);
    const T b1 = dim.b - T(1), b1_up = b1 > T(0) ? b1 : T(0), depth = is_float32<T> ? T(20) : T(40);
    const bool above = c.sin2 < mean_sin2; // t > A: integrate up to mu
    const T near = above ? c.sin2 : c.cos2, far = above ? c.cos2 : c.sin2;
    const T off = above             ? mean_sin2 - c.sin2
                  : c.sin2 < T(0.5) ? c.sin2 - mean_sin2
                                    : mean_cos2 - c.cos2;
    const T rate = above ? T(2) * kappa : T(-2) * kappa;
    const T decay = T(0.5) * (b1 + dim.b) - T(0.5) - near * (b1_up / far + rate);
    T kept = T(1); // largest 1 - g^2
    if (depth < decay)
      kept = depth / decay;
    if (!above && kappa > T(0)) {
      T reach = (depth + b1_up * std::log1p(depth / (kappa * far))) / (T(2) * kappa);
      reach *= b1 < T(0) ? T(1.3) : T(1);
      kept = reach < kept * near ? reach / near : kept;
    }
    const T g0 = std::sqrt(T(1) - kept), width = T(1) - g0;
    const T inv_far = T(1) / far, slant = near * inv_far;
    T sums[kNodeAccumulators] = {};
    for (int i = 0; i < Quadrature<T>::size; i += kNodeAccumulators)
      for (int j = 0; j < kNodeAccumulators; ++j) {
        const T e = width * Quadrature<T>::node(i + j), g = T(1) - e;
        const T h = e * (T(2) - e), l = near * h, u = (T(1) + l * inv_far) * g * g;
        // u = 1 + h (near/far g^2 - 1): that is exact where u is near 1
        const T lost = u > T(0.5) ? h * (slant * g * g - T(1)) - (u - T(1)) : T(0);
        const T exponent = b1 * (log_of(u) + lost / u) + rate * l;
        sums[j] += Quadrature<T>::weight(i + j) * exp_of(exponent) * (off + l) * g;
      }
    T sum = T(0);
    for (int j = 0; j < kNodeAccumulators; ++j)
      sum += sums[j];
    return T(2) * sum * width / far;
  }

private:
  // d = 3: 1 - A with A = coth kappa - 1/kappa. For small kappa it is computed by the continued
  // fraction of I_{3/2}/I_{1/2} (DLMF 10.33.1), A = kappa/(3 + kappa^2/(5 + kappa^2/(7 + ...))).
  template <class T> static HD T one_minus_mean_on_sphere(T kappa) {
    const T square = kappa < T(1) ? kappa * kappa : T(1);
    T tail = T(0);
    UNROLL
    for (int k = is_float32<T> ? 6 : 10; k >= 1; --k)
      tail = square / (T(2 * k + 3) + tail);
    return kappa < T(1) ? T(1) - kappa / (T(3) + tail)
                        : T(1) / kappa - T(2) / expm1_of(T(2) * kappa);
  }
};

} // namespace spherical

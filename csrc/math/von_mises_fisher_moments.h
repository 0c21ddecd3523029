// The normaliser of von Mises-Fisher and its derivatives: functions of v = d/2 - 1 and kappa that
// are ratios and logarithms of I_v(kappa), scaled so that nothing overflows, underflows or cancels.
//
//   log_prob_at_mode = log C + kappa,  C = kappa^v / ((2 pi)^(v+1) I_v(kappa))
//   log_prob_at_mode_over_uniform = log_prob_at_mode + log_area
//   mean             = A_d = I_{v+1}/I_v = E[t]
//   one_minus_mean   = 1 - A_d = E[1 - t]
//   variance         = A_d' = Var[t]
//
// (Mardia & Jupp 2000, eq. 9.3.4.) Two methods cover d = 2 .. 1e6, kappa = 0 .. 1e7. The quantity R
// = sqrt(v^2 + kappa^2) chooses between them. Errors are the largest seen against mpmath (75
// digits) on 7268 points, grid and random. "Mixed" is error / max(|true|, 1); the others are
// relative:
//                log_prob_at_mode (mixed)   mean      one_minus_mean   variance
//   float32      3.6e-7                     1.8e-7    2.4e-7           2.7e-7
//   float64      2.4e-15                    1.5e-15   1.8e-15          2.5e-15
#pragma once
#include "elementary.h"
#include "stirling.h"
#include "types.h"
#include "von_mises_fisher_coefficients.h"

namespace spherical {

template <class T> struct Moments {
  T log_prob_at_mode;
  T log_prob_at_mode_over_uniform; // relatively accurate from kappa = 1 on
  T mean;
  T one_minus_mean;
  T variance;
};

// Debye's expansion is used from R = radius on. What it leaves out is below two roundings of the
// variance, which is the most sensitive of the four moments, and below one of the others.
template <class T> struct Debye {
  static constexpr T radius = is_float32<T> ? T(14) : T(28);
  static HD int order(T r) {
    if (is_float32<T>)
      return r < T(40) ? 8 : r < T(300) ? 5 : 2;
    return r < T(50) ? 20 : r < T(120) ? 14 : r < T(1000) ? 9 : 5;
  }
};

// The order for R >= 28 in double, for results that are then rounded to float. The first term left
// out of any sum is below 2e-11.
HD int debye_order_for_float(double r) { return r < 40 ? 9 : r < 100 ? 7 : r < 1000 ? 5 : 3; }

// sum_k D_k(p^2) R^-k and the sums its first and second derivative in kappa need, by Horner's rule
// in p^2 = (v/R)^2 and in 1/R:
//   value  = sum_kj c_kj p^2j R^-k
//   first  = sum_kj n c_kj p^2j R^-k,  n = k + 2j     (d/dkappa R^-n = -n kappa R^-(n+2))
//   second = sum_kj [(1 - p^2)(n + 2) - 1] n c_kj p^2j R^-k
// T is S, or a vector of S.
template <class T, class S = T> struct DebyeSums {
  T value{}, first{}, second{};

  using Stored = std::conditional_t<is_float32<S>, float, double>;

  HD DebyeSums(const T &inv_r, const T &p2, int order) {
    const T q2 = S(1) - p2;
    for (int k = order; k >= 1; --k) {
      T c0{}, c1{}, c2{};
      for (int j = k; j >= 0; --j) {
        const S c = DebyeTable<Stored>::at(k, j), n = S(k + 2 * j);
        c0 = c0 * p2 + c;
        c1 = c1 * p2 + n * c;
        c2 = c2 * p2 + n * (n + S(2)) * c;
      }
      value = (value + c0) * inv_r;
      first = (first + c1) * inv_r;
      second = (second + (q2 * c2 - c1)) * inv_r;
    }
  }
};

// R >= Debye<T>::radius: log I_v by Debye's expansion (DLMF 10.41.3) written in 1/R, which makes it
// Hankel's expansion (DLMF 10.40.1) at v = 0, with kappa - R = -v^2/(R + kappa) taken exactly:
//   log_prob_at_mode = v [log((v + R)/2pi) - v/(R + kappa)] + log(R/2pi)/2 - value
//   mean             = kappa [1/(R + v) - (1/2 + first)/R^2]
//   one_minus_mean   = v (v + R + kappa)/((R + kappa)(R + v)) + kappa (1/2 + first)/R^2
//   variance         = [v R/(R + v) + 1/2 - p^2 + second]/R^2
// log_area is large for large d. From v = 12 on, Stirling's series for it cancels on paper:
//   log_prob_at_mode_over_uniform = v [log1p(w) + (kappa + 2 v w)/(R + kappa)] + log(R/v)/2
//                                   - (value + Delta(v)),
//   w = (R - v)/2v, Delta = Stirling's remainder = -value at kappa = 0
template <class T>
HD_INLINE Moments<T> moments_from_debye(T kappa, T v, T log_area, T r, T value, T first, T second) {
  const T inv_r2 = T(1) / (v * v + kappa * kappa), p = v / r;
  constexpr T inv_2pi = T(0.5L / kPi);
  const T half = (T(0.5) + first) * inv_r2, inv_rv = T(1) / (r + v), ratio = v / (r + kappa);
  const T at_mode = v * (log_of_normal((v + r) * inv_2pi) - ratio) +
                    (T(0.5) * log_of_normal(r * inv_2pi) - value);
  T over_uniform = at_mode + log_area;
  if (v >= T(12)) {
    const T share = kappa / v, rise = kappa * kappa * inv_rv; // R - v
    over_uniform = v * (log1p_of(T(0.5) * rise / v) + (kappa + rise) / (r + kappa)) +
                   (T(0.25) * log1p_of(share * share) - (value + stirling_remainder(T(1) / v)));
  }
  return {at_mode, over_uniform, kappa * (inv_rv - half),
          v * inv_rv * (T(1) + ratio) + kappa * half,
          inv_r2 * (v * r * inv_rv + (T(0.5) - p * p + second))};
}

template <class T> HD Moments<T> moments_debye(T kappa, const Dim<T> &dim, T r) {
  const T v = dim.b - T(0.5), inv_r = T(1) / r, p = v * inv_r;
  const DebyeSums<T> sums(inv_r, p * p, Debye<T>::order(r));
  return moments_from_debye(kappa, v, dim.log_area, r, sums.value, sums.first, sums.second);
}

// Terms are added until they are below the fraction `tiny` of the sum, `group` of them at once: each
// addition to the long sum is a rounding of its size.
template <class T> struct Kummer {
  static constexpr double tiny = is_float32<T> ? 1e-9 : 1e-18;
  static constexpr int group = 8;
};

// R < Debye<T>::radius: cos2 has density proportional to (cos2 sin2)^(b-1) e^(2 kappa cos2).
// Expanding the exponential makes it a mixture over n >= 0 of Beta(b + n, b) with weights
//   t_n = (b)_n / (2b)_n (2 kappa)^n / n!,   sum_n t_n = 1F1(b; 2b; 2 kappa) (DLMF 10.39.5, 13.2.2)
// so that every moment is an average <.> of positive terms, accurate for any kappa down to 0:
//   log_prob_at_mode = -log S_d - log(e^(-2 kappa) sum t_n)
//   mean             = <n/(2b + n)>
//   one_minus_mean   = <2 sin2_n>,  sin2_n = b/(2b + n)
//   variance         = 4 <sin2_n (1 - sin2_n)/(2b + n + 1)> + 4 Var(sin2_n)
// Var(sin2_n) is taken about a nearby centre (Amos's bound for A_d), where it does not cancel. The
// sums run in double for float32 too: 30 roundings of t_n in float32 would cost a digit of
// log_prob_at_mode.
//
// KummerTerm holds the factors of the terms that depend on d and n alone, for n = 0, 1, ...
template <class T> struct KummerTerm {
  T b, m; // m = 2b
  T n = T(0);
  T sin2 = T(0.5);    // sin2_n
  T share = T(0);     // n/(2b + n)
  T inv_mn, inv_both; // 1/(2b + n), and that over n + 1

  HD explicit KummerTerm(T b) : b(b), m(b + b), inv_mn(T(1) / m), inv_both(inv_mn) {}

  // t_{n+1} / (x t_n)
  HD T growth() const { return (b + n) * inv_both; }
  HD void next() {
    n += T(1);
    inv_both = T(1) / ((m + n) * (n + T(1)));
    inv_mn = inv_both * (n + T(1));
    sin2 = b * inv_mn;
    share = n * inv_mn;
  }
};

// The moments without the variance, from total = sum t_n, length = sum t_n n/(2b + n) and
// sin2 = sum t_n sin2_n.
template <class T>
HD_INLINE Moments<T> moments_from_kummer(T x, T log_area, T total, T length, T sin2) {
  const T inv_total = T(1) / total, over_uniform = -log_of(exp_of(-x) * total);
  return {over_uniform - log_area, over_uniform, length * inv_total, T(2) * sin2 * inv_total, T(0)};
}

template <class T> HD Moments<T> moments_kummer(T kappa, const Dim<T> &dim) {
  using Wide = std::conditional_t<is_float32<T>, double, T>;
  KummerTerm<Wide> factors(dim.b);
  const Wide x = 2.0 * kappa, m = factors.m, hypotenuse = std::sqrt(m * m + x * x);
  const Wide centre = (factors.b + factors.b * (m / (hypotenuse + x))) / (m + hypotenuse);
  Wide term = 1.0, total = 1.0, sin2_sum = 0.5, off = 0.5 - centre;
  Wide off_sum = off, square_sum = off * off, length = 0.0, latest = 0.0, within = 0.0;
  do {
    Wide terms = 0.0, lengths = 0.0, sin2s = 0.0, offs = 0.0, squares = 0.0, withins = 0.0;
    for (int i = 0; i < Kummer<T>::group; ++i) {
      const Wide growth = x * factors.growth(), sin2 = factors.sin2;
      factors.next();
      withins += term * sin2 * (1.0 - sin2) * factors.inv_mn;
      term *= growth;
      off = factors.sin2 - centre;
      latest = term * factors.share;
      terms += term;
      lengths += latest;
      sin2s += term * factors.sin2;
      offs += term * off;
      squares += term * off * off;
    }
    within += withins;
    total += terms;
    length += lengths;
    sin2_sum += sin2s;
    off_sum += offs;
    square_sum += squares;
  } while (latest > Kummer<T>::tiny * length);
  const Wide inv_total = 1.0 / total, drift = off_sum * inv_total;
  const Wide variance = square_sum * inv_total - drift * drift, log_area = dim.log_area;
  const auto a = moments_from_kummer(x, log_area, total, length, sin2_sum);
  return {static_cast<T>(a.log_prob_at_mode), static_cast<T>(a.log_prob_at_mode_over_uniform),
          static_cast<T>(a.mean), static_cast<T>(a.one_minus_mean),
          static_cast<T>(4.0 * (within * inv_total + variance))};
}

template <class T> HD Moments<T> moments(T kappa, const Dim<T> &dim) {
  const T v = dim.b - T(0.5), r = std::sqrt(v * v + kappa * kappa);
  return r < Debye<T>::radius ? moments_kummer(kappa, dim) : moments_debye(kappa, dim, r);
}

} // namespace spherical

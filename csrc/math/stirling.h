// log Gamma(a + b) - log Gamma(a) and its derivatives in a, from Stirling's series, without
// subtracting two log Gammas.
//
// Stirling remainder: log Gamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + Delta(x) (DLMF 5.11.1).
// Writing s = a + b, every difference of two such expansions is factored by hand, so that the
// factor b/(a s) is taken out exactly. That keeps the result relatively accurate when a >> b.
// Earlier work does so for the value alone (Didonato & Morris 1992, TOMS 708, algdiv).
#pragma once
#include "elementary.h"

namespace spherical {

// Below `threshold` the argument is raised `shift` times by the recurrence Gamma(x + 1) = x
// Gamma(x). The first term left out of any series below is then under 1e-9 (float), 1e-17 (double)
// of the result.
template <class T> struct Stirling {
  static constexpr T threshold = is_float32<T> ? T(5) : T(12);
  static constexpr int shift = is_float32<T> ? 5 : 12;
  static constexpr int terms = is_float32<T> ? 4 : 9;
};

// B_2k for k = 1, 2, ... (DLMF 24.2.1)
template <class T> HD T bernoulli_number(int k) {
  static constexpr T table[9] = {T(1.0 / 6),   T(-1.0 / 30),     T(1.0 / 42),
                                 T(-1.0 / 30), T(5.0 / 66),      T(-691.0 / 2730),
                                 T(7.0 / 6),   T(-3617.0 / 510), T(43867.0 / 798)};
  return table[k - 1];
}

// Delta(x) = sum_k B_2k / (2k (2k - 1)) x^(1 - 2k), from 1/x.
template <class T> HD T stirling_remainder(T inv_x) {
  const T z = inv_x * inv_x;
  T sum = T(0);
  UNROLL
  for (int k = Stirling<T>::terms; k >= 1; --k)
    sum = sum * z + bernoulli_number<T>(k) / T(2 * k * (2 * k - 1));
  return sum * inv_x;
}

// m(x) = x - log1p(x) >= 0, for x > -1. With r = x/(2 + x), log1p(x) = 2 atanh(r), so that
//   m(x) = r x - 2 r^3 (1/3 + r^2/5 + r^4/7 + ...)
// has no cancellation for small x. Used on -0.4 <= x <= 1, where r^2 <= 1/9; the direct difference
// loses at most a factor 4 elsewhere.
template <class T> HD T x_minus_log1p(T x) {
  if (!(x >= T(-0.4) && x <= T(1)))
    return x - std::log1p(x);
  const T r = x / (T(2) + x), z = r * r;
  T sum = T(0);
  UNROLL
  for (int k = is_float32<T> ? 15 : 33; k >= 3; k -= 2)
    sum = sum * z + T(1) / T(k);
  return r * (x - T(2) * z * sum);
}

// psi(s) - psi(a) = log1p(b/a) + u/2 + w sum_k (B_2k / 2k) e_k, given 1/a and 1/s;
//   u = 1/a - 1/s = b/(a s),  w = 1/a^2 - 1/s^2 = u (1/a + 1/s),
//   e_k = (a^-2k - s^-2k)/(a^-2 - s^-2): e_1 = 1, e_{k+1} = a^-2 e_k + s^-2k.
// For b > 0 all leading terms are positive (DLMF 5.11.2, differenced exactly).
template <class T> HD_INLINE T digamma_difference(T b, T inv_a, T inv_s) {
  const T za = inv_a * inv_a, zs = inv_s * inv_s;
  const T u = b * inv_a * inv_s, w = u * (inv_a + inv_s);
  T e = T(1), power = T(1), sum = T(0);
  UNROLL
  for (int k = 1; k <= Stirling<T>::terms; ++k) {
    sum += bernoulli_number<T>(k) / T(2 * k) * e;
    power *= zs;
    e = za * e + power;
  }
  return log1p_of_normal(b * inv_a) + (T(0.5) * u + w * sum);
}

// psi'(a) - psi'(s) = u + w/2 + u sum_k B_2k h_k;
//   h_k = (a^-(2k+1) - s^-(2k+1))/(1/a - 1/s): h_1 = a^-2 + (a s)^-1 + s^-2,
//   h_{k+1} = a^-2 h_k + s^-(2k+1) (1/a + 1/s)   (DLMF 5.15.8, differenced exactly).
template <class T> HD T trigamma_difference(T b, T inv_a, T inv_s) {
  const T za = inv_a * inv_a, zs = inv_s * inv_s, both = inv_a + inv_s;
  const T u = b * inv_a * inv_s;
  T h = za + inv_a * inv_s + zs, power = zs * inv_s, sum = T(0);
  UNROLL
  for (int k = 1; k <= Stirling<T>::terms; ++k) {
    sum += bernoulli_number<T>(k) * h;
    h = za * h + power * both;
    power *= zs;
  }
  return u + (T(0.5) * u * both + u * sum);
}

// g'(x1) - g'(x0) for g(x) = log Gamma(x + b) - log Gamma(x), of first order in delta = x1 - x0,
// with delta taken out of each part of digamma_difference: s = x + b,
//   log:     log1p(b/x1) - log1p(b/x0) = log1p(-delta b/(x1 s0))
//   u/2, and each raise x -> x + 1: 1/(x1 s1) - 1/(x0 s0) = -delta (x0 + x1 + b)/(x0 s0 x1 s1)
//   x^-2k:   x1^-2k - x0^-2k = -delta/(x0 x1) e_k, e_k = sum_{j < 2k} x0^-j x1^(j + 1 - 2k).
template <class T> HD T digamma_difference_change(T b, T x0, T x1, T delta) {
  T sum = T(0);
  const auto inverse_part = [&](T lower, T upper) {
    return -delta / lower / upper * (b / (lower + b)) * ((lower + upper + b) / (upper + b));
  };
  if (x0 < Stirling<T>::threshold || x1 < Stirling<T>::threshold) {
    for (int i = 0; i < Stirling<T>::shift; ++i, x0 += T(1), x1 += T(1))
      sum += inverse_part(x0, x1);
  }
  const T s0 = x0 + b, s1 = x1 + b;
  const auto series = [&](T lower, T upper) {
    const T p = T(1) / lower, r = T(1) / upper;
    T e = p + r, power = r * r, total = T(0);
    for (int k = 1; k <= Stirling<T>::terms; ++k) {
      total += bernoulli_number<T>(k) / T(2 * k) * e;
      e = p * e + power;
      power *= r;
      e = p * e + power;
      power *= r;
    }
    return -delta * p * r * total;
  };
  return sum + (std::log1p(-delta / x1 * (b / s0)) +
                (T(0.5) * inverse_part(x0, x1) + (series(x0, x1) - series(s0, s1))));
}

// g(x1) - g(x0) - (x1 - x0) g'(x1) >= 0 for g(x) = log Gamma(x + b) - log Gamma(x), which is
// concave: a Bregman divergence, of second order in delta = x1 - x0. Each part of Stirling's series
// is brought to second order by hand, with m(x) = x - log1p(x), so that nothing of first order
// cancels:
//   leading: u = delta/(x0 + b), v = delta b/(x0 (x0 + b + delta)),
//            b delta^2/((x0 + b)(x1 + b)) - b m(u) + x0 m(v)   for u <= 1, where m is a series
//            b log1p(u) - x0 log1p(v)                          above
//   -log/2 and each raise x -> x + 1: w = delta b/(x1 (x1 + b)), w delta/x0 - m(w x1/x0)
//   x^-n: (delta/x1)^2 g_n, g_n = sum_{j<=n} j x0^(j-n-1) x1^(1-j),
//         g_{n+1} = (g_n + (n + 1) x1^-n)/x0
// (docs/numerics.md#bregman).
template <class T> HD T bregman_log_gamma_ratio(T b, T x0, T x1, T delta) {
  T sum = T(0), half = T(0.5);
  const auto log_part = [&](T lower, T upper) {
    const T w = delta * b / (upper * (upper + b));
    return w * delta / lower - x_minus_log1p(w * upper / lower);
  };
  if (x0 < Stirling<T>::threshold || x1 < Stirling<T>::threshold) {
    for (int i = 0; i < Stirling<T>::shift; ++i, x0 += T(1), x1 += T(1))
      sum += log_part(x0, x1);
  }
  const T s0 = x0 + b, s1 = x1 + b, u = delta / s0, v = delta * b / (x0 * s1);
  sum += u <= T(1) ? b * u * (delta / s1) - b * x_minus_log1p(u) + x0 * x_minus_log1p(v)
                   : b * std::log1p(u) - x0 * std::log1p(v);
  sum += half * log_part(x0, x1);

  const auto remainder = [&](T lower, T upper) {
    const T p = T(1) / lower, r = T(1) / upper;
    T g = p, power = T(1), series = T(0);
    UNROLL
    for (int k = 1; k <= Stirling<T>::terms; ++k) {
      series += bernoulli_number<T>(k) / T(2 * k * (2 * k - 1)) * g;
      power *= r;
      g = p * (g + T(2 * k) * power);
      power *= r;
      g = p * (g + T(2 * k + 1) * power);
    }
    return (delta * r) * (delta * r) * series;
  };
  return sum + (remainder(x0, x1) - remainder(s0, s1));
}

} // namespace spherical

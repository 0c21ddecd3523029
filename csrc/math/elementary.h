// log, log1p, exp and expm1 for loops over rows or nodes. On the host they have no branch and no
// call, so that such loops vectorise; with the functions of the standard library they do not. They
// are truncated Taylor series that leave out less than 1/20 of a rounding. Errors, as the tests of
// the scalar functions bound them: log 1.1 ulp, log1p 1.5 ulp, exp 1.3 ulp, expm1 2.6 ulp.
#pragma once
#include "portable.h"
#include <limits>

namespace spherical {

// The bits of a T: sign, exponent with this bias, mantissa with that many bits.
template <class T> struct Format;
template <> struct Format<float> {
  using Bits = uint32_t;
  static constexpr int mantissa = 23;
  static constexpr Bits bias = 127;
};
template <> struct Format<double> {
  using Bits = uint64_t;
  static constexpr int mantissa = 52;
  static constexpr Bits bias = 1023;
};

#ifdef __CUDA_ARCH__
template <class T> HD_INLINE T log_of(T x) { return std::log(x); }
template <class T> HD_INLINE T log1p_of(T x) { return std::log1p(x); }
template <class T> HD_INLINE T exp_of(T x) { return std::exp(x); }
template <class T> HD_INLINE T expm1_of(T x) { return std::expm1(x); }
#else
// log 2 = high + low, where n * high is exact for the exponents n of T.
template <class T> struct Log2 {
  static constexpr T high = is_float32<T> ? T(0x1.62ep-1) : T(0x1.62e42fefap-1);
  static constexpr T low = T(0.693147180559945309417232L - static_cast<long double>(high));
};

// log x; -infinity at 0, and NaN below. With x = 2^n (1 + f), sqrt(1/2) < 1 + f < sqrt(2), and
// s = f/(2 + f):  log(1 + f) = 2 atanh(s) = f - s (f - R),  R = sum_k 2 s^2k/(2k + 1), k >= 1.
template <class T> HD_INLINE T log_of(T x) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  constexpr Bits one = F::bias << F::mantissa;
  constexpr T lift = T(Bits(1) << (F::mantissa + 1)), unit = T(Bits(1) << F::mantissa);
  const bool subnormal = x < std::numeric_limits<T>::min();
  const Bits bits = to_bits(subnormal ? x * lift : x);
  const Bits exponent = (bits + (one - to_bits(T(0.707106781186547524401L)))) >> F::mantissa;
  // From 2^mantissa on, the last bits of a T are those of an integer. So vectors can convert it.
  const T biased = from_bits(exponent | to_bits(unit)) - unit;
  const T n = biased - T(F::bias) - (subnormal ? T(F::mantissa + 1) : T(0));
  const T f = from_bits(bits - (exponent << F::mantissa) + one) - T(1);
  const T s = f / (T(2) + f), s2 = s * s;
  T r = 0;
  UNROLL
  for (int k = is_float32<T> ? 4 : 10; k >= 1; --k)
    r = s2 * (r + T(2) / T(2 * k + 1));
  const T value = n * Log2<T>::high + (f - (s * (f - r) - n * Log2<T>::low));
  const bool finite = x > T(0) && x <= std::numeric_limits<T>::max();
  return finite ? value : x > T(0) ? x : x == T(0) ? T(-HUGE_VAL) : T(NAN);
}

// log(1 + x); -infinity at -1, and NaN below. u = 1 + x is rounded; the rounding error is added to
// first order.
template <class T> HD_INLINE T log1p_of(T x) {
  const T u = T(1) + x, lost = x - (u - T(1)), value = log_of(u);
  return u > T(0) && u <= std::numeric_limits<T>::max() ? value + lost / u : value;
}

// log(1 + x) for x > -1, in double to a relative 1e-11 for -1 + 1e-6 <= x <= 1e300, as log_of and
// without its correction and its limits. It serves results that are rounded to float.
HD_INLINE double log1p_for_float(double x) {
  using F = Format<double>;
  constexpr F::Bits one = F::bias << F::mantissa;
  constexpr double unit = double(F::Bits(1) << F::mantissa);
  const F::Bits bits = to_bits(1 + x);
  const F::Bits exponent = (bits + (one - to_bits(0.707106781186547524401))) >> F::mantissa;
  const double n = (from_bits(exponent | to_bits(unit)) - unit) - double(F::bias);
  const double f = n == 0 ? x : from_bits(bits - (exponent << F::mantissa) + one) - 1;
  const double s = f / (2 + f), s2 = s * s;
  double r = 0;
  UNROLL
  for (int k = 6; k >= 1; --k)
    r = s2 * (r + 2.0 / (2 * k + 1));
  return n * 0.693147180559945309417 + s * (2 + r);
}

// e^x = (1 + above_1) 2 half, half = 2^(n-1), since 2^1024 is no number. With x = n log 2 + r:
//   above_1 = r (1 + r/2 (1 + r/3 (...)))
template <class T> struct Exponential {
  static constexpr T smallest = is_float32<T> ? T(-86.9) : T(-708.0);
  static constexpr T largest = is_float32<T> ? T(88.7228) : T(709.78271289);
  T above_1, half;

  HD_INLINE explicit Exponential(T x) {
    using F = Format<T>;
    constexpr T shift = T(3) * T(typename F::Bits(1) << (F::mantissa - 1));
    const T held = x > smallest ? x < largest ? x : largest : smallest;
    const T shifted = held * T(1.44269504088896340736L) + shift, n = shifted - shift;
    const T r = (held - n * Log2<T>::high) - n * Log2<T>::low;
    above_1 = T(0);
    UNROLL
    for (int k = is_float32<T> ? 8 : 13; k >= 1; --k)
      above_1 = (above_1 + T(1)) * (r * (T(1) / T(k)));
    half = from_bits((to_bits(shifted) + (F::bias - 1)) << F::mantissa);
  }

  // Returns `value` within the limits, `below` or infinity beyond them, and NaN for NaN.
  static HD_INLINE T limited(T x, T below, T value) {
    return x > smallest ? (x < largest ? value : T(HUGE_VAL)) : x == x ? below : x;
  }
};

// e^x. It is 0 for x < -86.9 (float), x < -708 (double), where e^x is nearly subnormal.
template <class T> HD_INLINE T exp_of(T x) {
  const Exponential<T> e(x);
  return Exponential<T>::limited(x, T(0), (T(1) + e.above_1) * e.half * T(2));
}

// e^x - 1.
template <class T> HD_INLINE T expm1_of(T x) {
  const Exponential<T> e(x);
  return Exponential<T>::limited(x, T(-1), (e.above_1 * e.half + (e.half - T(0.5))) * T(2));
}

// The functions of long double are those of the standard library: few rows are computed in it.
HD_INLINE long double log_of(long double x) { return std::log(x); }
HD_INLINE long double log1p_of(long double x) { return std::log1p(x); }
HD_INLINE long double exp_of(long double x) { return std::exp(x); }
HD_INLINE long double expm1_of(long double x) { return std::expm1(x); }
#endif

} // namespace spherical

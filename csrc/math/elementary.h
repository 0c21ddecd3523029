// log, log1p, exp and expm1 for loops over rows or nodes. On the host they have no branch and no
// call, so that such loops vectorise; with the functions of the standard library they do not. They
// are polynomials that leave out less than 1/20 of a rounding. Errors, as the tests of the scalar
// functions bound them: log 1.1 ulp, log1p 1.5 ulp, exp 1.3 ulp, expm1 2.6 ulp.
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
template <class T> HD_INLINE T log_of_normal(T x) { return std::log(x); }
template <class T> HD_INLINE T log1p_of(T x) { return std::log1p(x); }
template <class T> HD_INLINE T log1p_of_normal(T x) { return std::log1p(x); }
template <class T> HD_INLINE T exp_of(T x) { return std::exp(x); }
template <class T> HD_INLINE T expm1_of(T x) { return std::expm1(x); }
#else
// log 2 = high + low, where n * high is exact for the exponents n of T.
template <class T> struct Log2 {
  static constexpr T high = is_float32<T> ? T(0x1.62ep-1) : T(0x1.62e42fefap-1);
  static constexpr T low = T(0.693147180559945309417232L - static_cast<long double>(high));
};

// A normal number x > 0 as 2^n (1 + f), sqrt(1/2) < 1 + f < sqrt(2), and its logarithm.
template <class T> struct Logarithm {
  T n, f;

  HD_INLINE explicit Logarithm(T x) {
    using F = Format<T>;
    using Bits = typename F::Bits;
    constexpr Bits one = F::bias << F::mantissa;
    constexpr T unit = T(Bits(1) << F::mantissa);
    const Bits bits = to_bits(x);
    const Bits exponent = (bits + (one - to_bits(T(0.707106781186547524401L)))) >> F::mantissa;
    // From 2^mantissa on, the last bits of a T are those of an integer. So vectors can convert it.
    n = (from_bits(exponent | to_bits(unit)) - unit) - T(F::bias);
    f = from_bits(bits - (exponent << F::mantissa) + one) - T(1);
  }

  // n log 2 + log(1 + f). With s = f/(2 + f):
  //   log(1 + f) = 2 atanh(s) = f - s (f - R(s^2)),  R(z) = sum_k 2 z^k/(2k + 1), k >= 1
  // In float R is the sum of four terms; in double it is the polynomial of fdlibm (Sun Microsystems
  // 1993, e_log.c), which is wrong by less than 2^-58.
  HD_INLINE T value() const {
    const T s = f / (T(2) + f), z = s * s, w = z * z;
    T r;
    if constexpr (is_float32<T>) {
      r = z * T(2.0 / 3) + w * (T(2.0 / 5) + z * T(2.0 / 7) + w * T(2.0 / 9));
    } else {
      const T odd =
          0x1.5555555555593p-1 +
          w * (0x1.2492494229359p-2 + w * (0x1.7466496cb03dep-3 + w * 0x1.2f112df3e5244p-3));
      const T even = 0x1.999999997fa04p-2 + w * (0x1.c71c51d8e78afp-3 + w * 0x1.39a09d078c69fp-3);
      r = z * odd + w * even;
    }
    return n * Log2<T>::high + (f - (s * (f - r) - n * Log2<T>::low));
  }
};

// log x for normal x > 0, and log(1 + x) for x > -1. A NaN becomes some number. The rounding error of
// 1 + x counts only where the result is not small.
template <class T> HD_INLINE T log_of_normal(T x) { return Logarithm<T>(x).value(); }
template <class T> HD_INLINE T log1p_of_normal(T x) {
  Logarithm<T> log(T(1) + x);
  log.f = log.n == T(0) ? x : log.f;
  return log.value();
}

// log x; -infinity at 0, and NaN below.
template <class T> HD_INLINE T log_of(T x) {
  constexpr int lift = Format<T>::mantissa + 1;
  const bool subnormal = x < std::numeric_limits<T>::min();
  Logarithm<T> log(subnormal ? x * T(typename Format<T>::Bits(1) << lift) : x);
  log.n -= subnormal ? T(lift) : T(0);
  const T value = log.value();
  const bool finite = x > T(0) && x <= std::numeric_limits<T>::max();
  return finite ? value : x > T(0) ? x : x == T(0) ? T(-HUGE_VAL) : T(NAN);
}

// log(1 + x); -infinity at -1, and NaN below. u = 1 + x is rounded; the rounding error is added to
// first order.
template <class T> HD_INLINE T log1p_of(T x) {
  const T u = T(1) + x, lost = x - (u - T(1)), value = log_of(u);
  return u > T(0) && u <= std::numeric_limits<T>::max() ? value + lost / u : value;
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
HD_INLINE long double log_of_normal(long double x) { return std::log(x); }
HD_INLINE long double log1p_of(long double x) { return std::log1p(x); }
HD_INLINE long double log1p_of_normal(long double x) { return std::log1p(x); }
HD_INLINE long double exp_of(long double x) { return std::exp(x); }
HD_INLINE long double expm1_of(long double x) { return std::expm1(x); }
#endif

} // namespace spherical

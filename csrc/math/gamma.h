// Gamma variates.
#pragma once
#include "normal.h"

namespace spherical {

constexpr uint32_t kMaxTrials = 16; // each accepted with probability > 0.95: all fail below 2e-21

// log1p(w) - w + w^2/2 - w^3/3, which cancels to -w^4/4: by its series for |w| < 1/5 (float32: to
// w^12, float64: to w^24, remainder below one rounding), directly beyond, where it loses 3 digits.
template <class T> HD T log1p_minus_cubic(T w) {
  if (std::fabs(w) < T(0.2)) {
    constexpr int last = is_float32<T> ? 12 : 26;
    T sum = 0;
    for (int n = last; n >= 4; --n)
      sum = sum * -w + T(1) / T(n);
    const T w2 = w * w;
    return -w2 * w2 * sum;
  }
  return std::log1p(w) - w * (T(1) - w * (T(0.5) - w * (T(1) / T(3))));
}

// One variate of Gamma(a, 1), a > 0, by Marsaglia and Tsang (2000): m (1 + c n)^3 with m = a - 1/3,
// c = 1 / (3 sqrt(m)), accepted with probability exp(h), h = n^2/2 + m - v + m log(v/m). Written
// with w = c n that is h = 3 m (log1p(w) - w + w^2/2 - w^3/3): the O(m) terms cancel on paper
// instead of in the arithmetic. For a < 1 a variate of Gamma(a + 1) is multiplied by U^{1/a}
// (ibid., section 6). first_normal serves the first proposal. After kMaxTrials rejections the
// mean-like m is returned.
template <class T, class Noise> HD T sample_gamma(T a, T first_normal, const Noise &noise) {
  const bool boosted = a < T(1);
  const T m = (boosted ? a + T(1) : a) - T(1) / T(3);
  const T c = T(1) / (T(3) * std::sqrt(m));
  T minus_two_log_accept, minus_two_log_boost = 0;
  for (uint32_t trial = 0; trial < kMaxTrials; ++trial) {
    const T w = c * (trial == 0 ? first_normal : noise.normal(trial));
    noise.minus_two_logs(trial, minus_two_log_accept, minus_two_log_boost);
    const T v = (T(1) + w) * (T(1) + w) * (T(1) + w);
    if (w > T(-1) && minus_two_log_accept >= T(-6) * m * log1p_minus_cubic(w))
      return boosted ? m * v * std::exp(T(-0.5) * minus_two_log_boost / a) : m * v;
  }
  return boosted ? m * std::exp(T(-0.5) * minus_two_log_boost / a) : m;
}

} // namespace spherical

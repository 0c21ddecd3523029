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

// The proposal of Marsaglia and Tsang (2000) for Gamma(a, 1), a >= 1: m (1 + w)^3 with m = a - 1/3,
// w = c n and c = 1 / (3 sqrt(m)), accepted with probability exp(-cost/2). With n^2/2 + m - v +
// m log(v/m) written in w, the cost is -6 m (log1p(w) - w + w^2/2 - w^3/3): the O(m) terms cancel
// on paper instead of in the arithmetic. Nothing is accepted for w <= -1.
template <class T> struct GammaProposals {
  T m, c;

  HD_INLINE explicit GammaProposals(T a) : m(a - T(1) / T(3)), c(T(1) / (T(3) * std::sqrt(m))) {}

  HD_INLINE T value(T w) const { return m * ((T(1) + w) * (T(1) + w) * (T(1) + w)); }
  HD_INLINE T cost(T w) const { return T(-6) * m * log1p_minus_cubic(w); }
  // Without a logarithm: the proposal is accepted where this is not negative. The cost is at most
  // 1.79 m w^4 for |w| < 1/5.
  HD_INLINE T margin(T w, T minus_two_log) const {
    return std::fabs(w) < T(0.2) ? minus_two_log - T(1.8) * m * (w * w) * (w * w) : T(-1);
  }
};

// One variate of Gamma(a, 1), a > 0. For a < 1 a variate of Gamma(a + 1) is multiplied by U^{1/a}
// (ibid., section 6). first_normal serves the first proposal. After kMaxTrials rejections the
// mean-like m is returned.
template <class T, class Noise> HD T sample_gamma(T a, T first_normal, const Noise &noise) {
  const bool boosted = a < T(1);
  const GammaProposals<T> proposals(boosted ? a + T(1) : a);
  T minus_two_log_accept, minus_two_log_boost = 0, value = proposals.m;
  for (uint32_t trial = 0; trial < kMaxTrials; ++trial) {
    const T w = proposals.c * (trial == 0 ? first_normal : noise.normal(trial));
    noise.minus_two_logs(trial, minus_two_log_accept, minus_two_log_boost);
    if (w > T(-1) && minus_two_log_accept >= proposals.cost(w)) {
      value = proposals.value(w);
      break;
    }
  }
  return boosted ? value * std::exp(T(-0.5) * minus_two_log_boost / a) : value;
}

} // namespace spherical

// Uniform and normal variates from random words.
//
// float32 uses only integer operations, fma, multiplication, addition and square root, all
// correctly rounded, so that every CPU (and, with the intrinsics below, every GPU) returns the same
// bits. Polynomials: weighted minimax fits made by csrc/math/fit_normal.py.
#pragma once
#include "elementary.h"
#include "philox.h"

namespace spherical {

HD_INLINE float fused(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
HD_INLINE float product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
HD_INLINE float square_root(float a) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}

// -2 log((k + 1/2) 2^-32), relative error below 2.6 ulp over all k, so that both tails keep their
// precision: above sqrt(1/2) from 1 - u = (~k + 1/2) 2^-32, which is exact where it is small.
HD_INLINE float minus_two_log(uint32_t k) {
  const bool near_one = k >= 0xB504F334u; // u > sqrt(1/2)
  const uint32_t n = k ^ (0u - near_one);
  // n + 1/2, exact below 2^24; the halved conversion keeps it a signed one, which SIMD units have.
  const float halved = static_cast<float>(static_cast<int32_t>(n >> 1)) * 2.0f;
  const float f = n < 0x1000000u ? static_cast<float>(static_cast<int32_t>(n)) + 0.5f : halved;
  const uint32_t bits = to_bits(f);
  const int32_t exponent = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
  const float mantissa = from_bits(bits - (static_cast<uint32_t>(exponent) << 23)); // [.707, 1.414)
  const float g = near_one ? f * -0x1p-32f : mantissa - 1.0f;
  const float e = near_one ? 0.0f : static_cast<float>(exponent - 32);
  float q = 0.0870045274f; // log1p(g) = g - g^2/2 + g^3 q(g), max relative error of log1p 3.1e-8
  q = fused(q, g, -0.142674908f);
  q = fused(q, g, 0.149147645f);
  q = fused(q, g, -0.165775836f);
  q = fused(q, g, 0.199630648f);
  q = fused(q, g, -0.250013381f);
  q = fused(q, g, 0.333339095f);
  const float g2 = product(g, g);
  const float tail = fused(product(g2, g), q, product(-0.5f, g2));
  const float low = fused(e, -2.12194440e-4f, tail); // log 2 = 0.693359375 - 2.12194440e-4
  return product(-2.0f, fused(e, 0.693359375f, g + low));
}

// sin and cos of 2 pi j / 2^32, max error 2.4 ulp: exact reduction to |x| <= 1/4 half turns.
HD_INLINE void sincos_turn(uint32_t j, float &sine, float &cosine) {
  const uint32_t quadrant = (j + 0x20000000u) >> 30;
  const float x = product(static_cast<float>(static_cast<int32_t>(j - (quadrant << 30))), 0x1p-31f);
  const float x2 = product(x, x);
  float s = fused(-0.589012206f, x2, 2.54976106f);
  s = fused(s, x2, -5.16770792f);
  s = product(x, fused(s, x2, 3.14159274f));
  float c = fused(0.231260926f, x2, -1.33503592f);
  c = fused(c, x2, 4.05870676f);
  c = fused(c, x2, -4.93480206f);
  c = fused(c, x2, 1.0f);
  const bool swapped = quadrant & 1u;
  sine = from_bits(to_bits(swapped ? c : s) ^ ((quadrant & 2u) << 30));
  cosine = from_bits(to_bits(swapped ? s : c) ^ (((quadrant + 1u) & 2u) << 30));
}

// Two independent N(0, 1) by Box and Muller (1958); |n| <= 6.76, and never both zero.
HD_INLINE void normal_pair(uint32_t radius, uint32_t angle, float &n0, float &n1) {
  const float r = square_root(minus_two_log(radius));
  float s, c;
  sincos_turn(angle, s, c);
  n0 = product(r, c);
  n1 = product(r, s);
}

// (k + 1/2) 2^-53, rounded, for the first 53 of 64 bits: a uniform in (0, 1]. Each part is converted
// by its bits behind those of 2^52, which vectors can do.
HD_INLINE double uniform64(uint32_t high, uint32_t low) {
  constexpr uint64_t bits_of_unit = 0x4330000000000000u;
  const double first = from_bits(bits_of_unit | high) - 0x1p52;
  const double rest = from_bits(bits_of_unit | (low >> 11)) - 0x1p52;
  return first * 0x1p-32 + (rest + 0.5) * 0x1p-53;
}

HD_INLINE double minus_two_log(uint32_t high, uint32_t low) {
  return -2.0 * log_of(uniform64(high, low));
}

// sin and cos of 2 pi u, 0 <= u <= 1. On the host by Taylor series in |x| <= pi/4, which leave out
// less than 1/20 of a rounding, as the functions of elementary.h. CUDA's sin and cos would need
// local memory, to reduce any argument.
HD_INLINE void sincos_turn(double u, double &sine, double &cosine) {
#ifdef __CUDA_ARCH__
  sincospi(2.0 * u, &sine, &cosine);
#else
  constexpr double round = 0x1.8p52; // a sum with it is a whole number
  const double quadrant = (4.0 * u + round) - round;
  const double x = 6.283185307179586477 * (u - 0.25 * quadrant), x2 = x * x;
  double s = 1.0, c = 1.0;
  UNROLL
  for (int k = 8; k >= 1; --k) {
    s = 1.0 - s * (x2 * (1.0 / (2 * k * (2 * k + 1))));
    c = 1.0 - c * (x2 * (1.0 / (2 * k * (2 * k - 1))));
  }
  s *= x;
  const bool swapped = quadrant == 1.0 || quadrant == 3.0;
  const double signed_s = quadrant == 2.0 || quadrant == 3.0 ? -1.0 : 1.0;
  const double signed_c = quadrant == 1.0 || quadrant == 2.0 ? -1.0 : 1.0;
  sine = signed_s * (swapped ? c : s);
  cosine = signed_c * (swapped ? s : c);
#endif
}

// Normals that the four words of a Philox block yield: 4 in float32, 2 in float64.
template <class T> constexpr int kNormalsPerBlock = is_float32<T> ? 4 : 2;

HD_INLINE void normals(const uint32_t *words, float *n) {
  normal_pair(words[0], words[1], n[0], n[1]);
  normal_pair(words[2], words[3], n[2], n[3]);
}
HD_INLINE void normals(const uint32_t *words, double *n) {
  const double r = std::sqrt(minus_two_log(words[0], words[1]));
  double s, c;
  sincos_turn(uniform64(words[2], words[3]), s, c);
  n[0] = r * c;
  n[1] = r * s;
}

// The trial-th proposal of a rejection sampler draws one normal (block 0), and two independent
// exponentials (block 1). These are -2 log U, which is chi-squared with 2 degrees of freedom.
HD_INLINE void minus_two_logs(const uint32_t *words, float &first, float &second) {
  first = minus_two_log(words[0]);
  second = minus_two_log(words[1]);
}
HD_INLINE void minus_two_logs(const uint32_t *words, double &first, double &second) {
  first = minus_two_log(words[0], words[1]);
  second = minus_two_log(words[2], words[3]);
}

template <class T> struct ProposalNoise {
  RowStream stream;
  static HD_INLINE uint32_t number(uint32_t trial) { return 1 + trial; } // of the stream

  HD T normal(uint32_t trial) const {
    T n[kNormalsPerBlock<T>];
    normals(stream.words(number(trial), 0).w, n);
    return n[0];
  }
  HD void minus_two_logs(uint32_t trial, T &first, T &second) const {
    spherical::minus_two_logs(stream.words(number(trial), 1).w, first, second);
  }
};

} // namespace spherical

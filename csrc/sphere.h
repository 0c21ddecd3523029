// The geometry that every rotationally symmetric family shares: from the sums over a row to the
// scalars of a density, a sample and their gradients. For host and device, torch-free.
#pragma once
#include "math/normal.h"

namespace spherical {

// The terms of |x - mu|^2 and |x + mu|^2 of one element. Sums of squares have condition number 1
// (docs/numerics.md#half-angle).
template <class T> HD_INLINE void chord_terms(T x, T mu, T (&out)[2]) {
  const T minus = x - mu, plus = x + mu;
  out[0] = minus * minus;
  out[1] = plus * plus;
}

// minus = |x - mu|^2 and plus = |x + mu|^2.
template <class T> HD_INLINE HalfAngle<T> half_angle(T minus, T plus) {
  const T sum = minus + plus;
  return {minus / sum, plus / sum};
}

// log p = log_prob_at_mode(kappa) + log_prob_ratio(kappa, half_angle).
template <class Family, class T> HD T log_density(T kappa, const Dim<T> &dim, T minus, T plus) {
  return Family::log_prob_at_mode(kappa, dim) +
         Family::log_prob_ratio(kappa, dim, half_angle(minus, plus));
}

// The gradients of log p in x and mu, times an upstream gradient: step (mu - t x), step (x - t mu),
// the exact derivatives of the half-angle formula. Of the two forms
//   mu - t x = (mu - x) + 2 sin2 x = (mu + x) - 2 cos2 x
// each cancels near the pole of the other, so that of the nearer pole is taken:
//   grad_x = step (mu - pole x + rest x),  grad_mu = step (x - pole mu + rest mu).
template <class T> struct DensityGradient {
  T step;
  T pole; // 1, or -1 if the antipode is nearer
  T rest; // 2 sin2, or -2 cos2

  // An element of grad_a, where b is the other of x and mu. The product with `pole` is exact.
  HD_INLINE T element(T a, T b) const { return step * ((b - pole * a) + rest * a); }
};

template <class Family, class T>
HD DensityGradient<T> density_gradient(T upstream, T kappa, const Dim<T> &dim, T minus, T plus) {
  const HalfAngle<T> c = half_angle(minus, plus);
  const bool antipode = c.cos2 < c.sin2;
  // dt/dx = 4 (mu - t x) / S
  return {upstream * Family::log_prob_ratio_dt(kappa, dim, c) * (T(4) / (minus + plus)),
          antipode ? T(-1) : T(1), antipode ? T(-2) * c.cos2 : T(2) * c.sin2};
}

// The gradient in kappa, given that of log_prob_at_mode.
template <class Family, class T>
HD T density_gradient_kappa(T upstream, T kappa, const Dim<T> &dim, T log_prob_at_mode_dkappa,
                            T minus, T plus) {
  return upstream * (log_prob_at_mode_dkappa +
                     Family::log_prob_ratio_dkappa(kappa, dim, half_angle(minus, plus)));
}

// Below this dimension |g'| can be so small that the rounding of g - (g . m) m is not small beside
// it: a second subtraction makes g' orthogonal to rounding of its own.
constexpr int64_t kReorthogonalised = 16;

// The coefficients of a sample, rescaled so that t^2 + 2 s r^2 = 1 to the last rounding.
template <class Family, class T, class Noise>
HD SampleCoefficients<T> sample_coefficients(T kappa, const Dim<T> &dim, T p, T s,
                                             const Noise &noise) {
  const SampleCoefficients<T> coefficients = Family::sample(kappa, dim, p, s, noise);
  const T scale = T(1) / std::sqrt(coefficients.t * coefficients.t +
                                   T(2) * s * coefficients.r * coefficients.r);
  return {scale * coefficients.t, scale * coefficients.r};
}

// The sums over a row that the gradients of a sample need. m = mu / |mu|, and G is the upstream
// gradient.
enum SampleSum { kMinus, kPlus, kMuMu, kGradMu, kGradMuMinusX, kGradX, kSampleSums };

template <class T> HD_INLINE void sample_terms(T grad, T x, T mu, T (&out)[kSampleSums]) {
  const T minus = mu - x, plus = mu + x;
  out[kMinus] = minus * minus;
  out[kPlus] = plus * plus;
  out[kMuMu] = mu * mu;
  out[kGradMu] = grad * mu;
  out[kGradMuMinusX] = grad * minus;
  out[kGradX] = grad * x;
}

// The rotation-field gradient: dx = t dm - m (x . dm) + implicit_gradient (m - t x) dkappa, of
// which the first part carries x along the rotation that carries m to m + dm
// (docs/numerics.md#rotation-field). Hence
//   grad_mu = along_grad G + along_x x = (t G - (G . m) x) / |mu|,
//   grad_kappa = implicit_gradient G . (m - t x).
// G . (m - t x) = G . (m - x) + 2 sin2 G . x does not cancel near the mean direction.
template <class T> struct SampleGradient {
  T along_grad;
  T along_x;
  HalfAngle<T> half_angle;
  T outward; // G . (m - t x): times implicit_gradient the gradient in kappa

  SampleGradient() = default;
  HD_INLINE explicit SampleGradient(const T (&sums)[kSampleSums])
      : along_x(-sums[kGradMu] / sums[kMuMu]),
        half_angle(spherical::half_angle(sums[kMinus], sums[kPlus])) {
    along_grad = (half_angle.cos2 - half_angle.sin2) / std::sqrt(sums[kMuMu]);
    outward = sums[kGradMuMinusX] + T(2) * half_angle.sin2 * sums[kGradX];
  }

  // Makes grad_mu NaN where kappa is: it does not depend on kappa but through x.
  HD_INLINE void spread_nan(T kappa) { along_grad += T(0) * kappa; }

  // An element of grad_mu.
  HD_INLINE T element(T grad, T x) const { return along_grad * grad + along_x * x; }
};

} // namespace spherical

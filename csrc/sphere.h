// The geometry that every rotationally symmetric family shares: from the sums over a row to the
// scalars of a density, a sample and their gradients. For host and device, torch-free.
#pragma once
#include "math/normal.h"
#include "math/types.h"

namespace spherical {

// The sums over a row from which the angle between x and mu follows: |x - mu|^2, |x + mu|^2 and
// |x|^2 - |mu|^2 = (x - mu) . (x + mu). All have condition number 1 near either pole
// (docs/numerics.md#half-angle).
enum ChordSum { kMinus, kPlus, kSquares, kChordSums };

// Their terms, given minus = x - mu and plus = x + mu. T is a number, or a vector of numbers. Terms
// of other sums may follow them.
template <class T, int N> HD_INLINE void chord_terms(const T &minus, const T &plus, T (&out)[N]) {
  out[kMinus] = minus * minus;
  out[kPlus] = plus * plus;
  out[kSquares] = minus * plus;
}

// The sums |x|^2, |mu|^2 and x . mu, which say the same where nothing cancels. Gradients of samples
// need two more, with the upstream gradient G.
enum ProductSum { kXX, kMuMu, kXMu, kAngleProducts, kGX = kAngleProducts, kGMu, kSampleProducts };

template <class T, int N> HD_INLINE void product_terms(const T &x, const T &mu, T (&out)[N]) {
  out[kXX] = x * x;
  out[kMuMu] = mu * mu;
  out[kXMu] = x * mu;
}

template <class T> HD_INLINE void chords_of_products(T xx, T mu_mu, T x_mu, T *out) {
  out[kMinus] = (xx + mu_mu) - T(2) * x_mu;
  out[kPlus] = (xx + mu_mu) + T(2) * x_mu;
  out[kSquares] = xx - mu_mu;
}

// What the sums of chords, [kChordSums], say of two vectors.
template <class T> struct Chords {
  T minus;      // |x - mu|^2
  T plus;       // |x + mu|^2
  T inequality; // (|x|^2 - |mu|^2)/(|x|^2 + |mu|^2)
  T product;    // 4 |x| |mu|
  T excess;     // (|x| - |mu|)^2

  HD_INLINE explicit Chords(const T *sums) : minus(sums[kMinus]), plus(sums[kPlus]) {
    const T sum = minus + plus; // 2 (|x|^2 + |mu|^2)
    inequality = T(2) * sums[kSquares] / sum;
    const T root = std::sqrt(T(1) - inequality * inequality); // 4 |x| |mu| / sum
    product = sum * root;
    excess = sums[kSquares] * inequality / (T(1) + root);
  }

  // Of x/|x| and mu/|mu|: 4 sin2 |x| |mu| = |x - mu|^2 - (|x| - |mu|)^2, and likewise cos2.
  HD_INLINE HalfAngle<T> half_angle() const {
    const T sin2 = (minus - excess) / product, cos2 = (plus - excess) / product;
    return {sin2 < T(0) ? T(0) : sin2, cos2 < T(0) ? T(0) : cos2}; // NaN stays NaN
  }

  // Returns whether one length is more than about 2.6 times the other.
  HD_INLINE bool lengths_differ() const { return excess > T(0.25) * product; }

  // Returns whether that difference cancels, because the lengths differ by more than the
  // directions. It does not for x and ratio mu, where ratio is about |x|/|mu|.
  HD_INLINE bool cancels() const {
    return excess > T(2.0 / 3) * (plus < minus ? plus : minus) || lengths_differ();
  }
};

// The part of a vector a that is orthogonal to b, a - (a . b / b . b) b = a - ratio b - rest b.
template <class T> struct Orthogonal {
  T ratio;
  T rest;

  // Its element, to the rounding of `ratio` b and of a - ratio b.
  HD_INLINE T element(T a, T b) const { return (a - ratio * b) - rest * b; }
  // To the rounding of the part itself, which is small beside a near a pole.
  HD_INLINE T exact_element(T a, T b) const { return std::fma(-ratio, b, a) - rest * b; }
};

// The angle between x and mu, and what its gradients need.
template <class T> struct Cosine {
  HalfAngle<T> half_angle;
  Orthogonal<T> x_part;  // of x, orthogonal to mu
  Orthogonal<T> mu_part; // of mu, orthogonal to x
  T inverse;             // 1/(|x| |mu|)

  // With pole = 1, or -1 if the antipode is nearer, x . mu / |x|^2 = pole - x_rest and
  // x . mu / |mu|^2 = pole - mu_rest. Each rest is small near that pole.
  static HD_INLINE Cosine from(const Chords<T> &c) {
    const bool antipode = c.plus < c.minus;
    const T pole = antipode ? T(-1) : T(1), sum = c.minus + c.plus;
    const T twice = (antipode ? T(-2) * c.plus : T(2) * c.minus) / sum;
    const T x_rest = (twice + pole * c.inequality) / (T(1) + c.inequality);
    const T mu_rest = (twice - pole * c.inequality) / (T(1) - c.inequality);
    return {c.half_angle(), {pole, -mu_rest}, {pole, -x_rest}, T(4) / c.product};
  }

  // The same, where c are the chords of x and ratio mu. The rounding error of 1/ratio becomes a
  // part of the rest.
  static HD_INLINE Cosine from(const Chords<T> &c, T ratio) {
    const Cosine scaled = from(c);
    const T pole = scaled.x_part.ratio, rounded = pole / ratio;
    return {scaled.half_angle,
            {ratio * pole, ratio * scaled.x_part.rest},
            {rounded, (std::fma(-rounded, ratio, pole) + scaled.mu_part.rest) / ratio},
            ratio * scaled.inverse};
  }
};

// log p = log_prob_at_mode(kappa) + log_prob_ratio(kappa, half_angle).
template <class Family, class T> HD T log_density(T kappa, const Dim<T> &dim, HalfAngle<T> c) {
  return Family::log_prob_at_mode(kappa, dim) + Family::log_prob_ratio(kappa, dim, c);
}

// The gradient in kappa, given that of log_prob_at_mode.
template <class Family, class T>
HD T density_gradient_kappa(T upstream, T kappa, const Dim<T> &dim, T log_prob_at_mode_dkappa,
                            HalfAngle<T> c) {
  return upstream * (log_prob_at_mode_dkappa + Family::log_prob_ratio_dkappa(kappa, dim, c));
}

// Below this dimension |g'| can be so small that the rounding of g - (g . m) m is not small beside
// it: a second subtraction makes g' orthogonal to rounding of its own.
constexpr int64_t kReorthogonalised = 16;

// The coefficients of a sample, rescaled so that t^2 + 2 s r^2 = 1 to the last rounding.
template <class T>
HD_INLINE SampleCoefficients<T> rescaled(const SampleCoefficients<T> &coefficients, T s) {
  const T scale = T(1) / std::sqrt(coefficients.t * coefficients.t +
                                   T(2) * s * coefficients.r * coefficients.r);
  return {scale * coefficients.t, scale * coefficients.r};
}
template <class Family, class T, class Noise>
HD SampleCoefficients<T> sample_coefficients(T kappa, const Dim<T> &dim, T p, T s,
                                             const Noise &noise) {
  return rescaled(Family::sample(kappa, dim, p, s, noise), s);
}

// The sums over a row that the gradients of a sample need: those of chords, and with them those of
// the upstream gradient G.
enum SampleSum { kGradMu = kChordSums, kGradMinus, kGradX, kSampleSums };

template <class T>
HD_INLINE void sample_terms(const T &grad, const T &x, const T &mu, T (&out)[kSampleSums]) {
  const T minus = x - mu, plus = x + mu;
  chord_terms(minus, plus, out);
  out[kGradMu] = grad * mu;
  out[kGradMinus] = grad * minus;
  out[kGradX] = grad * x;
}

// The rotation-field gradient: dx = t dm - m (x . dm) + implicit_gradient (m - t x) dkappa, of
// which the first part carries x along the rotation that carries m to m + dm
// (docs/numerics.md#rotation-field). Hence
//   grad_mu = along_grad G + along_x x = (t G - (G . m) x) / |mu|,
//   grad_kappa = implicit_gradient G . (m - t x).
// G . (m - t x) = [G . (mu - x) + x_rest G . x]/|mu|, x_rest = 1 - x . mu / |x|^2, does not cancel
// near the mean direction.
template <class T> struct SampleGradient {
  T along_grad;
  T along_x;
  HalfAngle<T> half_angle;
  T outward; // G . (m - t x): times implicit_gradient the gradient in kappa

  SampleGradient() = default;
  HD_INLINE explicit SampleGradient(const T *sums) {
    const Chords<T> c(sums);
    const T sum = c.minus + c.plus, mu_mu = T(0.25) * sum - T(0.5) * sums[kSquares];
    const T x_rest = (T(2) * c.minus / sum + c.inequality) / (T(1) + c.inequality);
    const T inverse = T(1) / std::sqrt(mu_mu);
    half_angle = c.half_angle();
    along_grad = (half_angle.cos2 - half_angle.sin2) * inverse;
    along_x = -sums[kGradMu] / mu_mu;
    outward = (x_rest * sums[kGradX] - sums[kGradMinus]) * inverse;
  }

  // Makes grad_mu NaN where kappa is: it does not depend on kappa but through x.
  HD_INLINE void spread_nan(T kappa) { along_grad += T(0) * kappa; }

  // An element of grad_mu.
  HD_INLINE T element(T grad, T x) const { return along_grad * grad + along_x * x; }
};

} // namespace spherical

// Samples of von Mises-Fisher, by rejection. For the notation see von_mises_fisher.h.
#pragma once
#include "elementary.h"
#include "gamma.h"
#include "stirling.h"
#include "types.h"

namespace spherical {

struct VonMisesFisherSampler {
  // A sample by rejection, with p and s as in SampleCoefficients. noise is independent of both. The
  // proposals are
  //   d = 3         closed form from s, nothing rejected
  //   d >= 4        gamma envelope for kappa >= b, Wood (1994) below; accepted with probability
  //                 0.91 at worst (measured), -> 1 for kappa << d and for kappa >> d
  //   d = 2         Wood, which is Best & Fisher (1979) there; accepted with probability > 0.65
  // The first proposal uses s itself and p. A rejected one is redrawn independently of both, and
  // only the direction of g' is kept, which is independent of everything. The loop is bounded:
  // after `limit` rejections, P < 1e-14 (d >= 4) or 1e-21 (d = 2), the last proposal inside the
  // sphere is returned as it is, so that the law is off by less than that in total variation.
  template <class T, class Noise>
  static HD SampleCoefficients<T> sample(T kappa, const Dim<T> &dim, T p, T s, const Noise &noise) {
    if (dim.d == T(3))
      return sample_on_sphere(kappa, s);
    s = s < smallest<T> ? smallest<T> : s;
    const bool circle = dim.d == T(2), concentrated = !circle && kappa >= dim.b;
    const GammaEnvelope<T> envelope(kappa, dim);
    const WoodEnvelope<T> wood(kappa, dim);
    const uint32_t limit = circle ? 48 : 16;
    HalfAngle<T> chosen = {T(0.5), T(0.5)};
    for (uint32_t trial = 0; trial < limit; ++trial) {
      // minus two times: log U of the envelope, and log U of each gamma variate
      T uniform, uniform_s = T(0), uniform_p = T(0);
      GammaProposal<T> from_s = {s, T(0)}, from_p = {T(0), T(0)};
      noise.minus_two_logs(2 * trial, uniform_s, uniform);
      if (trial > 0)
        from_s = gamma_proposal(dim.b, noise.normal(2 * trial));
      if (!concentrated) {
        T unused;
        // The first proposal needs no uniform of s, so p takes it.
        noise.minus_two_logs(trial == 0 ? 0 : 2 * trial + 1, uniform_p, unused);
        from_p = gamma_proposal(dim.b, trial == 0 ? p : noise.normal(2 * trial + 1));
      }
      const Proposal<T> proposal =
          concentrated ? envelope.propose(from_s.value) : wood.propose(from_s.value, from_p.value);
      if (!(proposal.half_angle.cos2 < T(0))) // NaN is chosen as well
        chosen = proposal.half_angle;
      if (uniform >= proposal.cost() && uniform_s >= from_s.cost && uniform_p >= from_p.cost)
        break;
    }
    return coefficients(chosen, s);
  }

  template <class T> static HD_INLINE SampleCoefficients<T> sample_on_sphere(T kappa, T s) {
    s = s < smallest<T> ? smallest<T> : s;
    return coefficients(half_angle_on_sphere(kappa, s), s);
  }

  // The first proposal of `sample` for d != 3, given the two uniforms of its noise. It is accepted
  // where the result is not negative.
  template <class T>
  static HD_INLINE T sample_early(T kappa, const Dim<T> &dim, T p, T s, T uniform_p, T uniform,
                                  SampleCoefficients<T> &out) {
    s = s < smallest<T> ? smallest<T> : s;
    const bool circle = dim.d == T(2), concentrated = kappa >= (circle ? T(HUGE_VAL) : dim.b);
    const GammaProposals<T> gamma(circle ? T(1) : dim.b);
    const T w = gamma.c * p;
    const T value = circle ? T(0.5) * p * p : gamma.value(w);
    const Proposal<T> concentrated_one = GammaEnvelope<T>(kappa, dim).propose(s);
    const Proposal<T> other = WoodEnvelope<T>(kappa, dim).propose(s, value);
    const HalfAngle<T> half_angle = {
        concentrated ? concentrated_one.half_angle.sin2 : other.half_angle.sin2,
        concentrated ? concentrated_one.half_angle.cos2 : other.half_angle.cos2};
    out = coefficients(half_angle, s);
    const T margin = other.margin(uniform), margin_p = circle ? T(0) : gamma.margin(w, uniform_p);
    const T both = margin < margin_p ? margin : margin_p;
    return concentrated ? concentrated_one.margin(uniform) : both;
  }

  // A proposal of the sampler: a position, and its cost = -2 log(probability of accepting it). It
  // is accepted if -2 log U >= cost.
  template <class T> struct Proposal {
    HalfAngle<T> half_angle;
    T factor, x;

    HD T cost() const { return factor * x_minus_log1p(x); }
    // Without a logarithm: it is accepted where this is not negative. The cost is at most
    // factor x^2/2 for x >= 0, and that over 1 + x below.
    HD_INLINE T margin(T minus_two_log) const {
      return minus_two_log * (x < T(0) ? T(1) + x : T(1)) - T(0.501) * factor * x * x;
    }
  };

  // kappa >= b > 1: sin2 has density proportional to [sin2 (1 - sin2)]^(b-1) e^(-2 kappa sin2). The
  // tangent to log(1 - sin2) at sin2* bounds it by that of s/(2 rate), s ~ Gamma(b):
  //   rate = kappa + (b - 1)/(2 (1 - sin2*)),  cost = 2 (b - 1) m(-x),
  //   x = (sin2 - sin2*)/(1 - sin2*),  m(x) = x - log1p(x).
  // The best tangent is at the mean of its own proposal, sin2* = b/(2 rate), which solves
  //   2 sin2* = 4b/(q + sqrt(q^2 - 8 b kappa)),  q = 2 kappa + 2b - 1.
  template <class T> struct GammaEnvelope {
    T b1, tangent, rate;

    HD GammaEnvelope(T kappa, const Dim<T> &dim) {
      const T b = dim.b, q = T(2) * kappa + b + b - T(1), k1 = T(2) * kappa - T(1);
      b1 = b - T(1);
      tangent = T(2) * b / (q + std::sqrt(k1 * k1 + T(4) * b * b1)); // the same root, expanded
      rate = kappa + T(0.5) * b1 / (T(1) - tangent);
    }

    HD Proposal<T> propose(T s) const {
      const T sin2 = s / (rate + rate), cos2 = T(1) - sin2;
      const bool inside = cos2 > T(0);
      return {{inside ? sin2 : T(1), inside ? cos2 : T(-1)},
              inside ? T(2) * b1 : T(HUGE_VAL),
              inside ? (tangent - sin2) / (T(1) - tangent) : T(1)};
    }
  };

  // Any kappa, b: sin2 = beta s/(g + beta s) with s, g ~ Gamma(b) has density proportional to (sin2
  // cos2)^(b-1) / (1 - w t)^m (Ulrich 1984, Wood 1994), where beta = m/(R + 2 kappa), w = 2
  // kappa/(m + R) and R = sqrt(m^2 + 4 kappa^2). Since kappa = m w/(1 - w^2), the terms of size m
  // in the cost cancel:
  //   cost = 2 m m(-x),  x = kappa (t - w)/m <= 1/2.
  template <class T> struct WoodEnvelope {
    T m, beta, sin2_w, slope; // sin2_w = (1 - w)/2, slope = 2 kappa/m

    HD WoodEnvelope(T kappa, const Dim<T> &dim) {
      m = dim.b + dim.b;
      const T x = T(2) * kappa, r = std::sqrt(m * m + x * x);
      beta = m / (r + x);
      sin2_w = T(0.5) * m * (T(1) + beta) / (m + r);
      slope = x / m;
    }

    HD Proposal<T> propose(T s, T g) const {
      const T bs = beta * s, inv = T(1) / (g + bs), sin2 = bs * inv;
      return {{sin2, g * inv}, T(2) * m, slope * (sin2 - sin2_w)};
    }
  };

  // d = 3: t has density proportional to e^(kappa t), and U = 1 - e^(-s) is uniform since
  // s ~ Gamma(1):  2 kappa sin2 = -log[1 - (1 - e^-s)(1 - e^(-2 kappa))], sin2 rising with s.
  // Either end is computed from its own side.
  template <class T> static HD_INLINE HalfAngle<T> half_angle_on_sphere(T kappa, T s) {
    const T x = T(2) * kappa;
    const bool uniform = x < T(1e-30), spread = x < T(2);
    const T of_s = expm1_of(spread ? -s : s), of_x = expm1_of(spread ? x : x - s);
    const T exp_s = exp_of(-s), exp_x = exp_of(-x), less_s = expm1_of(-s), less_x = expm1_of(-x);
    const T rise = log1p_of(of_s * (spread ? -less_x : exp_x));
    const T fall = log1p_of(spread ? exp_s * of_x : of_x - less_s);
    const T inv_x = T(1) / (uniform ? T(1) : x);
    const T sin2 = uniform ? -less_s : (spread ? -rise : s - rise) * inv_x;
    const T cos2 = uniform ? exp_s : fall * inv_x;
    const HalfAngle<T> exact = {sin2 < T(0.5) ? sin2 : T(1) - cos2,
                                sin2 < T(0.5) ? T(1) - sin2 : cos2};
    return {uniform ? sin2 : exact.sin2, uniform ? cos2 : exact.cos2};
  }

private:
  template <class T> static constexpr T smallest = is_float32<T> ? T(1e-37) : T(1e-300);

  template <class T> static HD_INLINE SampleCoefficients<T> coefficients(HalfAngle<T> c, T s) {
    return {c.cos2 - c.sin2, std::sqrt(T(2) * c.sin2 * (c.cos2 / s))};
  }

  template <class T> struct GammaProposal {
    T value;
    T cost;
  };

  // Gamma(a) from a standard normal n. For a = 1/2 it is n^2/2, exactly.
  template <class T> static HD GammaProposal<T> gamma_proposal(T a, T n) {
    if (a < T(1))
      return {T(0.5) * n * n, T(0)};
    const GammaProposals<T> proposals(a);
    const T w = proposals.c * n;
    if (!(w > T(-1)))
      return {T(0), T(HUGE_VAL)};
    return {proposals.value(w), proposals.cost(w)};
  }
};

} // namespace spherical

// KL between Power Spherical and von Mises-Fisher, either way round, any two mean directions.
//
// With w = sin^2(angle/2) = (1 - mu_p . mu_q)/2, either divergence is that of equal means plus a
// positive term:
//   KL(PS_p || vMF_q) = same mean + 2 kappa_q w E[t],  E[t] = kappa_p/(2b + kappa_p)
//   KL(vMF_p || PS_q) = same mean + kappa_q (E log cos2(mu_p) - E log cos2(mu_q)),
//                       cos2(mu) = (1 + mu . x)/2
// The closed forms (De Cao & Aziz 2020, appendix) cancel: at kappa_p = kappa_q << d the two
// families agree to the second order. Both are functions of one row, so double is used for float32
// as well.
#pragma once
#include "kl_von_mises_fisher.h"
#include "power_spherical.h"

namespace spherical {

// The distribution P of x = log(cos2/sin2), written around its mode or mean x0, at e = x - x0. With
// E = e^e - 1,
//   sin2/sin2_0 = 1/(1 + cos2_0 E),  cos2/cos2_0 = 1 + q,  sin2 - sin2_0 = -cos2_0 q,  q = sin2 E,
// and a distribution Q of the other family: log(Q/P) = slope q + bend m(q) + const with
// m(q) = q - log1p(q), in which neither family's terms of size kappa appear.
struct TiltedDensity {
  double b, a, s, kappa; // Power Spherical: a, s = a + b; von Mises-Fisher: kappa, and a = 0
  double sin2_0, cos2_0, scale, slope, bend;

  static HD TiltedDensity power_spherical(double b, double kappa_p, double kappa_q) {
    const double a = b + kappa_p, s = a + b, sin2_0 = b / s, cos2_0 = a / s;
    return {b,
            a,
            s,
            0.0,
            sin2_0,
            cos2_0,
            std::sqrt(1.0 / a + 1.0 / b),
            2.0 * kappa_q * cos2_0 - kappa_p,
            kappa_p};
  }

  static HD TiltedDensity von_mises_fisher(double b, double kappa_p, double kappa_q) {
    const double root = std::sqrt(b * b + kappa_p * kappa_p), t0 = kappa_p / (b + root);
    const double sin2_0 = 0.5 * b * (1.0 + b / (root + kappa_p)) / (b + root),
                 cos2_0 = 0.5 * (1.0 + t0);
    const double scale = 1.0 / std::sqrt(2.0 * sin2_0 * cos2_0 * (b + kappa_p * t0));
    return {b,       0.0, 0.0, kappa_p, sin2_0, cos2_0, scale, kappa_q - 2.0 * kappa_p * cos2_0,
            -kappa_q};
  }

  struct Point {
    double log_weight; // log density of e, up to a constant
    double log_cos2;   // log(cos2/cos2_0) = log1p(q), for q near -1 from e - log1p(cos2_0 E)
    double log_ratio;  // log(Q/P), up to a constant
    double score;      // d/dkappa_p of log_weight, up to a constant: log cos2, or t
  };

  HD Point at(double e) const {
    const double up = std::expm1(e), over = 1.0 / (1.0 + cos2_0 * up), q = sin2_0 * (up * over);
    const bool far = q < -0.5;
    const double log_cos2 = far ? e - std::log1p(cos2_0 * up) : std::log1p(q);
    const double log_weight =
        a > 0.0 ? -b * e - s * std::log1p(sin2_0 * std::expm1(-e))
                : b * e - 2.0 * b * std::log1p(cos2_0 * up) + 2.0 * kappa * cos2_0 * q;
    return {log_weight, log_cos2, slope * q + bend * (far ? q - log_cos2 : x_minus_log1p(q)),
            a > 0.0 ? log_cos2 : 2.0 * cos2_0 * q};
  }
};

// The moments of P that the divergence of equal means needs, by the trapezoid rule in tau with
// e = scale sinh(tau): 160 steps over a range that leaves out less than e^-45 of P. With
// l = log(Q/P) - const,
//   spread = Var[l],
//   kl = log E exp(l - E l) = log1p(E[exp(l - E l) - 1 - (l - E l)]), positive terms,
//   minus_log_cos2 = -E[log cos2],
//   kl_dkappa_p = -Cov[score, l], in which nothing cancels where Q is near P.
struct TiltedMoments {
  double spread = 0.0, kl = 0.0, minus_log_cos2 = 0.0, kl_dkappa_p = 0.0;

  HD explicit TiltedMoments(const TiltedDensity &law) {
    constexpr int half = 80;
    const double reach = 45.0 / law.b / law.scale;
    const double step = std::asinh(reach > 14.0 ? reach : 14.0) / half;
    double total = 0.0, mean = 0.0, square = 0.0, log_cos2 = 0.0, score = 0.0;
    for (int i = -half; i <= half; ++i) {
      const TiltedDensity::Point point = law.at(law.scale * std::sinh(step * i));
      const double weight = std::exp(point.log_weight) * std::cosh(step * i);
      total += weight;
      mean += weight * point.log_ratio;
      square += weight * point.log_ratio * point.log_ratio;
      log_cos2 += weight * point.log_cos2;
      score += weight * point.score;
    }
    mean /= total;
    score /= total;
    spread = square / total - mean * mean;
    minus_log_cos2 = -(std::log1p(-law.sin2_0) + log_cos2 / total);
    double excess = 0.0, covariance = 0.0;
    for (int i = -half; i <= half; ++i) {
      const TiltedDensity::Point point = law.at(law.scale * std::sinh(step * i));
      const double x = point.log_ratio - mean, weight = std::exp(point.log_weight);
      covariance += std::cosh(step * i) * weight * (point.score - score) * x;
      const double series = // e^x - 1 - x, 3e-11 relative where it is cut
          x * x * (0.5 + x * (1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120 + x * (1.0 / 720)))));
      excess +=
          std::cosh(step * i) * (std::fabs(x) < 0.01 ? weight * series
                                 : x < 1.0 ? weight * (std::expm1(x) - x)
                                           : std::exp(point.log_weight + x) - weight * (1.0 + x));
    }
    kl = std::log1p(excess / total);
    kl_dkappa_p = -covariance / total;
  }
};

// The quadrature sees Q where P has mass only, and the closed form loses the digits of log
// p(mu)/KL: the first is used while Q is near P.
HD bool overlap(const TiltedMoments &moments) { return moments.spread < 3.0 && moments.kl < 2.0; }

// KL(PS(mu_p, p) || vMF(mu_q, q)); means: half_angle between mu_p and mu_q. E[t] = p/(2b + p).
struct KlPowerSphericalVonMisesFisher {
  static HD double kl(double p, double q, const Dim<double> &dim, HalfAngle<double> means) {
    const double length = PowerSpherical::mean_resultant_length(p, dim);
    const TiltedMoments moments(TiltedDensity::power_spherical(dim.b, p, q));
    double kl = moments.kl;
    if (!overlap(moments))
      kl = (PowerSpherical::log_prob_at_mode(p, dim) -
            p * PowerSpherical::log_prob_at_mode_dkappa(p, dim)) -
           (VonMisesFisher::log_prob_at_mode(q, dim) - q * (2.0 * dim.b / (2.0 * dim.b + p)));
    return kl + 2.0 * q * means.sin2 * length;
  }

  static HD double kl_dkappa_p(double p, double q, const Dim<double> &dim,
                               HalfAngle<double> means) {
    return TiltedMoments(TiltedDensity::power_spherical(dim.b, p, q)).kl_dkappa_p +
           2.0 * q * means.sin2 * PowerSpherical::mean_resultant_length_dkappa(p, dim);
  }

  // A_q - A_p + 2 A_p w, as in KlVonMisesFisher.
  static HD double kl_dkappa_q(double p, double q, const Dim<double> &dim,
                               HalfAngle<double> means) {
    const double m = 2.0 * dim.b, length = p / (m + p);
    const Moments<double> own = moments(q, dim);
    const double gap = length < 0.5 ? own.mean - length : m / (m + p) - own.one_minus_mean;
    return gap + 2.0 * length * means.sin2;
  }

  static HD double kl_dsin2(double p, double q, const Dim<double> &dim, HalfAngle<double>) {
    return 2.0 * q * PowerSpherical::mean_resultant_length(p, dim);
  }
};

// log 0F1(; v + 1; kappa^2/4) = kappa A - KL(vMF || uniform).
HD double log_vmf_moment(double kappa, const Dim<double> &dim) {
  return kappa * VonMisesFisher::mean_resultant_length(kappa, dim) -
         VonMisesFisher::kl_uniform(kappa, dim);
}

// The trapezoid rule in log s for mean_log_cos2_gap, up to where the tail s^-b is below 1e-12: at
// most 600 nodes, and none if k is NaN.
struct GapNodes {
  static constexpr double first = -28.0, step = 0.25;
  int count;

  HD GapNodes(double k, const Dim<double> &dim) {
    const double last = 4.0 + std::log(2.0 * (k + dim.d)) + 28.0 / dim.b;
    count = last > first ? static_cast<int>(std::ceil((last - first) / step)) : 0;
  }
  HD double at(int i) const { return std::exp(first + step * i); }
};

// E log cos2(mu_p) - E log cos2(mu_q) >= 0 under vMF(mu_p, k). From
// log cos2 = int_0^inf (e^-s - e^(-s cos2)) ds/s it is
//   int (e^x1 - e^x0) ds/s,  xi = -s/2 + L(ki) - L(k) = log E e^(-s cos2),  L = log 0F1,
//   k0 = |k - s/2|,  k1^2 = k0^2 + 2 k s w.
// For k > d, where L is of size k, ki - k - s/2 is taken out:
//   xi = -2 k s {1, 1 - w}/(ki + k + s/2) - log_prob_at_mode(ki) + log_prob_at_mode(k).
// For close arguments x1 - x0 = int A, by Gauss and Legendre's rule of 4 nodes. In the first form
// x1 and x0 are known to a rounding of log p(mu) each, so that it serves as soon as they differ.
HD double mean_log_cos2_gap(double k, HalfAngle<double> means, const Dim<double> &dim) {
  const double w = means.sin2;
  if (!(k > 0.0 && w > 0.0))
    return k * w; // 0 or NaN
  const double moment = log_vmf_moment(k, dim), peak = VonMisesFisher::log_prob_at_mode(k, dim);
  const GapNodes nodes(k, dim);
  double total = 0.0;
  for (int n = 0; n < nodes.count; ++n) {
    const double s = nodes.at(n), k0 = std::fabs(k - 0.5 * s), gain = 2.0 * k * s * w;
    const double k1 = std::sqrt(k0 * k0 + gain), rise = gain / (k1 + k0), sum = k + 0.5 * s;
    const bool dense = sum > dim.d;
    const double x0 =
        dense ? peak - VonMisesFisher::log_prob_at_mode(k0, dim) - 2.0 * k * s / (k0 + sum)
              : log_vmf_moment(k0, dim) - moment - 0.5 * s;
    if (rise < 0.1 * (dim.b + k0) && !(dense && rise > 1.0)) {
      double inner = 0.0;
      for (int i = 0; i < 4; ++i) {
        const bool near = i < 2;
        const double node = near ? 0.33998104358485626 : 0.86113631159405258;
        const double x = 0.5 + (i & 1 ? -0.5 : 0.5) * node;
        inner += (near ? 0.65214515486254614 : 0.34785484513745386) *
                 VonMisesFisher::mean_resultant_length(k0 + rise * x, dim);
      }
      inner *= 0.5 * rise;
      total += inner < 1.0 ? std::exp(x0) * std::expm1(inner) : std::exp(x0 + inner) - std::exp(x0);
    } else {
      const double x1 = dense ? peak - VonMisesFisher::log_prob_at_mode(k1, dim) -
                                    2.0 * k * s * means.cos2 / (k1 + sum)
                              : log_vmf_moment(k1, dim) - moment - 0.5 * s;
      total += std::exp(x1) - std::exp(x0);
    }
  }
  return total * GapNodes::step;
}

// Derivatives of mean_log_cos2_gap in k and w: of e^x1 - e^x0 with L' = A,
//   dw: e^x1 A(k1) k s/k1,   dk: e^x1 (c1 A(k1) - A(k)) - e^x0 (c0 A(k0) - A(k)),
//   c1 = dk1/dk = (k - s/2 + s w)/k1,  c0 = dk0/dk = sign(k - s/2),
// each difference from 1 - A and 1 - c where those are the smaller:
//   1 - c1 = s^2 w (1 - w)/(k1 (k1 + c1 k1)),
// and for ki near k, where 1 - A has lost the digits of the difference, from the mean of A' and
//   k - ki = s [k (1 - 2w) - s/4]/(k + ki), without w for k0.
struct GapSlopes {
  double dk, dw;

  HD GapSlopes(double k, HalfAngle<double> means, const Dim<double> &dim) : dk(0.0 * k), dw(dk) {
    const double w = means.sin2;
    const GapNodes nodes(k, dim);
    const double moment = log_vmf_moment(k, dim), peak = VonMisesFisher::log_prob_at_mode(k, dim);
    const Moments<double> own = moments(k, dim);
    for (int n = 0; n < nodes.count; ++n) {
      const double s = nodes.at(n), k0 = std::fabs(k - 0.5 * s), sum = k + 0.5 * s;
      const double k1 = std::sqrt(k0 * k0 + 2.0 * k * s * w), ahead = k - 0.5 * s + s * w;
      const bool dense = sum > dim.d;
      for (int i = 0; i < 2; ++i) {
        const double ki = i == 0 ? k0 : k1, share = i == 0 ? 1.0 : means.cos2;
        const Moments<double> a = moments(ki, dim);
        const double x = dense ? peak - a.log_prob_at_mode - 2.0 * k * s * share / (ki + sum)
                               : log_vmf_moment(ki, dim) - moment - 0.5 * s;
        const double weight = std::exp(x), forward = i == 0 ? k - 0.5 * s : ahead;
        double change = -own.mean;
        if (forward > 0.0) {
          const double lag = i == 0 ? 0.0 : s * s * w * means.cos2 / (ki * (ki + forward));
          const double away = i == 0 ? 1.0 : means.cos2 - w;
          const double behind = s * (k * away - 0.25 * s) / (k + ki);
          const double rise = std::fabs(behind) < 1e-5 * (dim.b + k)
                                  ? -0.5 * behind * (own.variance + a.variance)
                              : own.mean < 0.5 ? a.mean - own.mean
                                               : own.one_minus_mean - a.one_minus_mean;
          change = rise - lag * a.mean;
        } else if (ki > 0.0) {
          change += forward / ki * a.mean;
        }
        dk += i == 0 ? -weight * change : weight * change;
        if (i == 1)
          dw += weight * k * s * (ki > 0.0 ? a.mean / ki : 1.0 / dim.d);
      }
    }
    dk *= GapNodes::step;
    dw *= GapNodes::step;
  }
};

// KL(vMF(mu_p, p) || PS(mu_q, q)); means: half_angle between mu_p and mu_q.
struct KlVonMisesFisherPowerSpherical {
  static HD double kl(double p, double q, const Dim<double> &dim, HalfAngle<double> means) {
    const TiltedMoments moments(TiltedDensity::von_mises_fisher(dim.b, p, q));
    double kl = moments.kl;
    if (!overlap(moments))
      kl = (VonMisesFisher::log_prob_at_mode(p, dim) -
            p * VonMisesFisher::log_prob_at_mode_dkappa(p, dim)) -
           (PowerSpherical::log_prob_at_mode(q, dim) - q * moments.minus_log_cos2);
    return kl + q * mean_log_cos2_gap(p, means, dim);
  }

  static HD double kl_dkappa_p(double p, double q, const Dim<double> &dim,
                               HalfAngle<double> means) {
    return TiltedMoments(TiltedDensity::von_mises_fisher(dim.b, p, q)).kl_dkappa_p +
           q * GapSlopes(p, means, dim).dk;
  }

  // -E log cos2(mu_q) - d/dq log q(mu_q).
  static HD double kl_dkappa_q(double p, double q, const Dim<double> &dim,
                               HalfAngle<double> means) {
    const TiltedMoments moments(TiltedDensity::von_mises_fisher(dim.b, p, q));
    return (moments.minus_log_cos2 - PowerSpherical::log_prob_at_mode_dkappa(q, dim)) +
           mean_log_cos2_gap(p, means, dim);
  }

  static HD double kl_dsin2(double p, double q, const Dim<double> &dim, HalfAngle<double> means) {
    return q * GapSlopes(p, means, dim).dw;
  }
};

inline KlPowerSphericalVonMisesFisher divergence(PowerSpherical, VonMisesFisher) { return {}; }
inline KlVonMisesFisherPowerSpherical divergence(VonMisesFisher, PowerSpherical) { return {}; }

} // namespace spherical

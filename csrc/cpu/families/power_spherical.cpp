// log_prob_at_mode of Power Spherical, and what is computed with it, over the rows of a tile.
#include "power_spherical.h"
#include <iterator>

namespace spherical {
namespace {
using PS = OverRows<PowerSpherical>;

// How often an argument b + kappa is raised before Stirling's series, for every kappa alike.
int raised_by(double b) { return b < Stirling<double>::threshold ? Stirling<double>::shift : 0; }

// log p(mu) = log [(4 pi)^-b Gamma(s)/Gamma(a)] for d < 24: prod_{i<b} (a + i) is the ratio of
// gammas if b is an integer. If it is not, Gamma(x + 1/2)/Gamma(x) is another factor, with
// x = a + floor(b) raised by n to where w = x + n - 1/4 >= 8.
SIMD_CLONES FLATTEN void at_mode_by_products(const Dim<double> &dim, int64_t n, const double *kappa,
                                             double *out) {
  constexpr long double inv_4pi = 0.25L / kPi;
  const int whole = static_cast<int>(dim.b);
  const bool half = dim.b > whole;
  long double scale = half ? std::sqrt(inv_4pi) : 1.0L;
  for (int i = 0; i < whole; ++i)
    scale *= inv_4pi;
  double product[kTile], above[kTile], below[kTile];
  std::fill_n(product, n, static_cast<double>(scale));
  for (int i = 0; i < whole; ++i)
    for (int64_t r = 0; r < n; ++r)
      product[r] *= kappa[r] + (dim.b + i);
  if (half) {
    const int raised = std::max(8 - 2 * whole, 0);
    const double x = dim.b + whole;
    std::fill_n(above, n, 1.0);
    std::fill_n(below, n, 1.0);
    for (int i = 0; i < raised; ++i)
      for (int64_t r = 0; r < n; ++r) {
        above[r] *= kappa[r] + (x + i);
        below[r] *= kappa[r] + (x + i + 0.5);
      }
    for (int64_t r = 0; r < n; ++r) {
      const double w = kappa[r] + (x + raised - 0.25), inverse = 1 / (w * below[r]);
      const double inv_w = below[r] * inverse, z = inv_w * inv_w;
      double ratio = 0;
      UNROLL
      for (int k = std::size(kHalfStep) - 1; k >= 0; --k)
        ratio = ratio * z + kHalfStep[k];
      product[r] *= std::sqrt(w) * ratio * (above[r] * (w * inverse));
    }
  }
  for (int64_t r = 0; r < n; ++r)
    out[r] = log_of(product[r]);
}

// log p(mu) = b log(s/(4 pi e)) + (a - 1/2) log(s/a) + Delta(s) - Delta(a) for a >= 11.5.
SIMD_CLONES FLATTEN void at_mode_by_stirling(double b, int64_t n, const double *kappa,
                                             double *out) {
  constexpr double inv_4pi_e = 0.25L / kPi / 2.718281828459045235360L;
  for (int64_t r = 0; r < n; ++r) {
    const double a = kappa[r] + b, s = kappa[r] + (b + b), inverse = 1 / (a * s);
    const double inv_a = s * inverse, inv_s = a * inverse;
    const double remainder = stirling_remainder(inv_s) - stirling_remainder(inv_a);
    out[r] =
        b * log_of_normal(s * inv_4pi_e) + ((a - 0.5) * log1p_of_normal(b * inv_a) + remainder);
  }
}

// log p(mu) + log_area = log [Gamma(s)/Gamma(2b)] - log [Gamma(a)/Gamma(b)], for b >= 11.5: every
// term vanishes with kappa.
SIMD_CLONES FLATTEN void over_uniform_by_stirling(double b, int64_t n, const double *kappa,
                                                  double *out) {
  const double inv_b = 1 / b, inv_2b = 0.5 * inv_b;
  const double at_zero = stirling_remainder(inv_2b) - stirling_remainder(inv_b);
  for (int64_t r = 0; r < n; ++r) {
    const double k = kappa[r], a = k + b, s = k + (b + b), inverse = 1 / (a * s);
    const double inv_a = s * inverse, inv_s = a * inverse;
    const double remainder = stirling_remainder(inv_s) - stirling_remainder(inv_a) - at_zero;
    const double grown =
        (b + b - 0.5) * log1p_of_normal(k * inv_2b) - (b - 0.5) * log1p_of_normal(k * inv_b);
    out[r] = k * log1p_of_normal(b * inv_a) + (grown + remainder);
  }
}

// slope[r] = d/dkappa log p(mu).
SIMD_CLONES FLATTEN void slopes_at_mode(double b, int64_t n, const double *kappa, double *slope) {
  const int raised = raised_by(b);
  for (int64_t r = 0; r < n; ++r)
    slope[r] =
        digamma_difference(b, 1 / (kappa[r] + (b + raised)), 1 / (kappa[r] + (b + b + raised)));
  for (int i = 0; i < raised; ++i)
    for (int64_t r = 0; r < n; ++r)
      slope[r] += b / ((kappa[r] + (b + i)) * (kappa[r] + (b + b + i)));
}

// out[r] = -d2/dkappa2 log p(mu).
SIMD_CLONES FLATTEN void curvatures_at_mode(double b, int64_t n, const double *kappa, double *out) {
  const int raised = raised_by(b);
  for (int64_t r = 0; r < n; ++r)
    out[r] =
        trigamma_difference(b, 1 / (kappa[r] + (b + raised)), 1 / (kappa[r] + (b + b + raised)));
  for (int i = 0; i < raised; ++i)
    for (int64_t r = 0; r < n; ++r) {
      const double a = kappa[r] + (b + i), s = a + b, inverse = b / (a * s);
      out[r] += inverse * inverse * ((a + s) / b);
    }
}

// log p(mu) + log_area, which is relatively accurate from kappa = 1 on.
void over_uniform_from_one(const Dim<double> &dim, int64_t n, const double *kappa, double *out) {
  if (dim.d >= 24)
    return over_uniform_by_stirling(dim.b, n, kappa, out);
  at_mode_by_products(dim, n, kappa, out);
  for (int64_t r = 0; r < n; ++r)
    out[r] += dim.log_area;
}

} // namespace

void PS::log_prob_at_mode(const Dim<double> &dim, int64_t n, const double *kappa, double *out) {
  if (dim.d < 24)
    at_mode_by_products(dim, n, kappa, out);
  else
    at_mode_by_stirling(dim.b, n, kappa, out);
}

template <class T>
void PS::log_prob_at_mode_dkappa(const Dim<T> &dim, int64_t n, const T *kappa, T *out) {
  double wide[kTile], slope[kTile];
  std::copy(kappa, kappa + n, wide);
  slopes_at_mode(double{dim.b}, n, wide, slope);
  for (int64_t r = 0; r < n; ++r)
    out[r] = static_cast<T>(slope[r]);
}
template void PS::log_prob_at_mode_dkappa(const Dim<float> &, int64_t, const float *, float *);
template void PS::log_prob_at_mode_dkappa(const Dim<double> &, int64_t, const double *, double *);

void PS::log_prob_at_mode_over_uniform(const Dim<double> &dim, int64_t n, const double *kappa,
                                       double *out) {
  over_uniform_from_one(dim, n, kappa, out);
  for (int64_t r = 0; r < n; ++r)
    if (kappa[r] < 1)
      out[r] = PowerSpherical::log_prob_at_mode_over_uniform(kappa[r], dim);
}

// log p(mu) + log_area - kappa d/dkappa log p(mu). The terms are 2 d/kappa times the result at
// most, of which double has enough digits for kappa >= 1.
void PS::kl_uniform_for_float(const Dim<double> &dim, int64_t n, const double *kappa, double *out) {
  double slope[kTile];
  over_uniform_from_one(dim, n, kappa, out);
  slopes_at_mode(dim.b, n, kappa, slope);
  for (int64_t r = 0; r < n; ++r)
    out[r] =
        kappa[r] < 1 ? PowerSpherical::kl_uniform(kappa[r], dim) : out[r] - kappa[r] * slope[r];
}

void PS::kl_uniform_dkappa_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                     double *out) {
  curvatures_at_mode(dim.b, n, kappa, out);
  for (int64_t r = 0; r < n; ++r)
    out[r] *= kappa[r];
}

} // namespace spherical

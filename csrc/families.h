// The list of families, and the contract each satisfies. A family is a struct of static functions
// (T = float or double; see math/power_spherical.h for a complete example):
//
//   log_prob_at_mode(kappa, dim)             log p(mu), the log-density at its mode
//   log_prob_at_mode_dkappa, log_prob_at_mode_dkappa2           its first and second derivative in
//   kappa mean_resultant_length(kappa, dim)  A_d(kappa) = E[t]; mean_resultant_length_dkappa its
//   derivative kl_uniform(kappa, dim)           KL(p || uniform) log_prob_ratio(kappa, half_angle)
//   log p(x) - log p(mu) log_prob_ratio_dt(kappa, half_angle)    its derivative in t = mu . x
//   log_prob_ratio_dkappa(half_angle)       its derivative in kappa
//   sample(kappa, dim, p, s, noise)  SampleCoefficients coordinates of a sample, see portable.h
//   implicit_gradient(kappa, dim, half_angle)     (dt/dkappa) / (1 - t^2) at a fixed quantile of t
//
// Adding one: its header, its name here, its module in reference/__init__.py, its class, and its
// row in tests/cases.py.
#pragma once
#include "math/power_spherical.h"
#include "math/von_mises_fisher.h"
#include <stdexcept>
#include <string>

namespace spherical {

// Calls f(Family{}) for the family of that index, which is its position in reference.FAMILIES.
template <class F> void dispatch_family(const char *op, int64_t family, const F &f) {
  switch (family) {
  case 0:
    return f(PowerSpherical{});
  case 1:
    return f(VonMisesFisher{});
  default:
    throw std::runtime_error(std::string(op) + ": no family has index " + std::to_string(family));
  }
}

} // namespace spherical

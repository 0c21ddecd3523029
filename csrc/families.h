// The list of families, and the contract that each of them satisfies.
//
// A family is a struct of static function templates over T (float or double; log_prob_at_mode and
// log_prob_ratio also long double). math/power_spherical.h is a complete example. Every function
// takes all of its arguments, whether or not this family needs each of them. Its concentration has
// passed in_domain (math/types.h): it is in the domain, or NaN, and then the result is NaN as well.
//
//   name                                            its name in Python, such as "power_spherical"
//   upper_bound                                     its concentration is in [0, upper_bound); a
//                                                   number of float, kUpperBound if there is none
//   log_prob_at_mode(kappa, dim)                    log p(mu), the log-density at the mode
//   log_prob_at_mode_dkappa(kappa, dim)             its first derivative in kappa
//   log_prob_at_mode_dkappa2(kappa, dim)            its second derivative in kappa
//   log_prob_at_mode_over_uniform(kappa, dim)       log p(mu) + log_area; 0 where p is uniform
//   log_prob_ratio(kappa, dim, half_angle)          log p(x) - log p(mu)
//   log_prob_ratio_dt(kappa, dim, half_angle)       its derivative in t = mu . x
//   log_prob_ratio_dkappa(kappa, dim, half_angle)   its derivative in kappa
//   mean_resultant_length(kappa, dim)               A = E[t]
//   mean_resultant_length_dkappa(kappa, dim)        its derivative
//   kl_uniform(kappa, dim)                          KL(p || uniform)
//   kl_uniform_dkappa(kappa, dim)                   its derivative
//   sample(kappa, dim, p, s, noise)                 the SampleCoefficients of a sample
//   implicit_gradient(kappa, dim, half_angle)       (dt/dkappa)/(1 - t^2) at a fixed quantile of t
//
// To add a family, write its header and add its name to `Families`, at the same position as in
// powerspherical_ext/families.py. Where a divergence between two families is known, include the
// header of the pair as well.
#pragma once
#include "math/kl_power_spherical.h"
#include "math/kl_power_spherical_von_mises_fisher.h"
#include "math/kl_spherical_cauchy.h"
#include "math/kl_von_mises_fisher.h"
#include "math/normal.h"
#include <string>

namespace spherical {

template <class... Members> struct List {
  static constexpr int64_t size = sizeof...(Members);
};

using Families = List<PowerSpherical, VonMisesFisher, SphericalCauchy>;

// Returns whether `use(family)` compiles.
template <class Family, class Use> constexpr bool compiles(Use) {
  return std::is_invocable_v<Use, Family>;
}

// Is true for a family; for any other type it does not compile, and the error names what is
// missing.
template <class Family> constexpr bool is_family() {
#define FAMILY_NEEDS(FUNCTION, ...)                                                                \
  static_assert(                                                                                   \
      compiles<Family>([](auto family) -> decltype(static_cast<void>(                              \
                                           decltype(family)::FUNCTION(__VA_ARGS__))) {}),          \
      "this family lacks the function " #FUNCTION " of csrc/families.h")
  static_assert(compiles<Family>([](auto family) -> decltype(std::string(decltype(family)::name)) {
                  return {};
                }),
                "this family lacks the constant name of csrc/families.h");
  static_assert(
      compiles<Family>(
          [](auto family) -> std::enable_if_t<(double(float(decltype(family)::upper_bound)) ==
                                               decltype(family)::upper_bound)> {}),
      "this family lacks the constant upper_bound of csrc/families.h");
  using T = double;
  using D = Dim<double>;
  using H = HalfAngle<double>;
  FAMILY_NEEDS(log_prob_at_mode, T(), D());
  FAMILY_NEEDS(log_prob_at_mode_dkappa, T(), D());
  FAMILY_NEEDS(log_prob_at_mode_dkappa2, T(), D());
  FAMILY_NEEDS(log_prob_at_mode_over_uniform, T(), D());
  FAMILY_NEEDS(log_prob_ratio, T(), D(), H());
  FAMILY_NEEDS(log_prob_ratio_dt, T(), D(), H());
  FAMILY_NEEDS(log_prob_ratio_dkappa, T(), D(), H());
  FAMILY_NEEDS(mean_resultant_length, T(), D());
  FAMILY_NEEDS(mean_resultant_length_dkappa, T(), D());
  FAMILY_NEEDS(kl_uniform, T(), D());
  FAMILY_NEEDS(kl_uniform_dkappa, T(), D());
  FAMILY_NEEDS(sample, T(), D(), T(), T(), ProposalNoise<T>());
  FAMILY_NEEDS(implicit_gradient, T(), D(), H());
#undef FAMILY_NEEDS
  return true;
}

template <class... Members> constexpr bool are_families(List<Members...>) {
  return (is_family<Members>() && ...);
}
static_assert(are_families(Families()));

} // namespace spherical

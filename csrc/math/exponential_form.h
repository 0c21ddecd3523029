// The identities of an exponential family, p(x) = C(kappa) exp(kappa phi(t)).
//
// A family whose density has this form inherits them from ExponentialForm<Family>. They hold for no
// other family, and no other file of csrc may use them.
#pragma once
#include "types.h"

namespace spherical {

template <class Family> struct ExponentialForm {
  // d/dkappa KL(p || uniform) = -kappa d2/dkappa2 log p(mu).
  template <class T> static HD T kl_uniform_dkappa(T kappa, const Dim<T> &dim) {
    return -kappa * Family::log_prob_at_mode_dkappa2(kappa, dim);
  }

  // log p(mu) + log_area = KL(p || uniform) + kappa d/dkappa log p(mu), a sum of positive terms
  // that is exactly 0 for kappa = 0. It costs more than log p(mu) alone.
  template <class T> static HD T log_prob_at_mode_over_uniform(T kappa, const Dim<T> &dim) {
    if (can_add_log_area(kappa, dim))
      return Family::log_prob_at_mode(kappa, dim) + dim.log_area;
    return Family::kl_uniform(kappa, dim) + kappa * Family::log_prob_at_mode_dkappa(kappa, dim);
  }

  // Returns whether log_area can be added to log p(mu): in double, where kappa is not small beside
  // d, the rounding errors of the two terms do no harm.
  template <class T> static HD_INLINE bool can_add_log_area(T kappa, const Dim<T> &dim) {
    return !is_float32<T> && kappa > dim.b / T(16);
  }
};

} // namespace spherical

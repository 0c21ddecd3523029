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
    return Family::kl_uniform(kappa, dim) + kappa * Family::log_prob_at_mode_dkappa(kappa, dim);
  }
};

} // namespace spherical

"""Rules that hold for log p = log p(mu) + kappa phi(t), where phi does not depend on kappa.

Only a family of this form may use them; see csrc/math/exponential_form.h.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["kl_uniform_dkappa", "log_prob_at_mode_over_uniform"]


def log_prob_at_mode_over_uniform(
    kappa: Tensor, kl_uniform: Tensor, log_prob_at_mode_dkappa: Tensor
) -> Tensor:
    """log p(mu) + log_area = KL(p || uniform) - kappa E[phi], where E[phi] = -d/dkappa log p(mu).

    Both terms are at least 0 and vanish at kappa = 0.
    """
    return kl_uniform + kappa * log_prob_at_mode_dkappa


def kl_uniform_dkappa(kappa: Tensor, log_prob_at_mode_dkappa2: Tensor) -> Tensor:
    """d/dkappa KL(p || uniform) = kappa Var[phi] = -kappa d2/dkappa2 log p(mu)."""
    return -kappa * log_prob_at_mode_dkappa2

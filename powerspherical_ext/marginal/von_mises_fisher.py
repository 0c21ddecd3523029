"""The cosine of a von Mises-Fisher vector, with b = (d - 1)/2."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .contract import Step
from .exponential_form import reach

__all__ = [
    "log_prob_ratio_difference",
    "logit_mode",
    "reach",
    "variance_orthogonal",
    "variance_t",
]


def logit_mode(kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """The zero of b (sin2 - cos2) + 2 kappa sin2 cos2: t = kappa/(b + R), R = sqrt(b^2 + kappa^2),
    and 1 - t = b (1 + b/(R + kappa))/(b + R)."""
    b = (d - 1) / 2
    r = (b * b + kappa * kappa).sqrt()
    return 0.5 * b * (1 + b / (r + kappa)) / (b + r), 0.5 * (1 + kappa / (b + r))


def log_prob_ratio_difference(kappa: Tensor, d: int, step: Step) -> Tensor:
    """0, because log p is linear in t."""
    return torch.zeros_like(step.cos2_excess)


def variance_t(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
    """Var[t] = A'."""
    return scalar("mean_resultant_length_dkappa")


def variance_orthogonal(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
    """E[1 - t^2]/(d - 1) = A/kappa, which tends to A'(0) = 1/d."""
    positive = kappa > 0
    ratio = scalar("mean_resultant_length") / torch.where(positive, kappa, 1.0)
    return torch.where(positive, ratio, 1 / d)

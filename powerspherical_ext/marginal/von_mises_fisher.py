"""The cosine of a von Mises-Fisher vector, with b = (d - 1)/2."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .exponential_form import reach
from .step import density_change

__all__ = [
    "logit_density_change",
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


def logit_density_change(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor, h: Tensor) -> Tensor:
    """`density_change` without a difference, because log p is linear in t."""
    return density_change(d, sin2, cos2, h, kappa, None)


def variance_t(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
    """Var[t] = A'."""
    return scalar("mean_resultant_length_dkappa")


def variance_orthogonal(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
    """E[1 - t^2]/(d - 1) = A/kappa, which tends to A'(0) = 1/d."""
    positive = kappa > 0
    ratio = scalar("mean_resultant_length") / torch.where(positive, kappa, 1.0)
    return torch.where(positive, ratio, 1 / d)

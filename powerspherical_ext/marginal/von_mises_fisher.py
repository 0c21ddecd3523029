"""The cosine of a von Mises-Fisher vector, with b = (d - 1)/2.

The largest relative error of the smaller tail seen in float64, for d in {2, 3, 4, 8, 64, 2048} and
kappa from 0 to 1e7, is 4e-13 against quadrature in long double; for d = 1e6 it is 1.8e-12.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..reference import von_mises_fisher
from . import exponential_form
from .exponential_form import reach
from .steps import linear_log_ratio

__all__ = [
    "log_density_ratio",
    "log_density_slope",
    "logit_mode",
    "reach",
    "variances",
]


def logit_mode(kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """The zero of b (sin2 - cos2) + 2 kappa sin2 cos2: t = kappa/(b + R), R = sqrt(b^2 + kappa^2),
    and 1 - t = b (1 + b/(R + kappa))/(b + R)."""
    b = (d - 1) / 2
    r = (b * b + kappa * kappa).sqrt()
    return 0.5 * b * (1 + b / (r + kappa)) / (b + r), 0.5 * (1 + kappa / (b + r))


def log_density_slope(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/du log g."""
    slope = von_mises_fisher.log_prob_ratio_dt(kappa, d, sin2, cos2)
    return exponential_form.log_density_slope(slope, d, sin2, cos2)


def log_density_ratio(
    kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor, slope: Tensor, h: Tensor
) -> Tensor:
    """The ratio of a log p that is linear in t."""
    return linear_log_ratio((d - 1) / 2, sin2, cos2, slope, h)[0]


def variances(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
    """Var[t] = A', and E[1 - t^2]/(d - 1) = A/kappa = (1 - A' - A^2)/(d - 1).

    The second form where kappa is small, in which its square underflows in the gradient of A/kappa.
    """
    mean, along = scalar("mean_resultant_length"), scalar("mean_resultant_length_dkappa")
    is_small = kappa < 1
    ratio = mean / torch.where(is_small, 1.0, kappa)
    return along, torch.where(is_small, (1 - along - mean.square()) / (d - 1), ratio)

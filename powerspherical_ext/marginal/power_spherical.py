"""The cosine of a Power Spherical vector: (1 + t)/2 is Beta(a, b), b = (d - 1)/2, a = b + kappa."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..reference import power_spherical
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
    """The zero of b (sin2 - cos2) + 2 sin2 cos2 d/dt log p: b/s and a/s, s = a + b."""
    b = (d - 1) / 2
    s = kappa + 2 * b
    return b / s, (kappa + b) / s


def logit_density_change(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor, h: Tensor) -> Tensor:
    """`density_change`, whose difference is kappa log r - kappa (r - 1) for r = cos2_end/cos2."""
    slope = power_spherical.log_prob_ratio_dt(kappa, d, sin2, cos2)
    return density_change(d, sin2, cos2, h, slope, lambda step: -kappa * step.cos2_excess)


def variance_t(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
    """Var[t] = 4 a b/(s^2 (s + 1))."""
    return variance_orthogonal(kappa, d, scalar) * ((d - 1) / (kappa + (d - 1)))


def variance_orthogonal(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
    """E[1 - t^2]/(d - 1) = 2 a/(s (s + 1))."""
    s = kappa + (d - 1)
    return (kappa + s) / (s * (s + 1))

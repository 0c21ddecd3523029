"""The cosine of a spherical Cauchy vector, with b = (d - 1)/2.

u = log(cos2/sin2) is that of the uniform distribution, shifted by 2 log((1 + rho)/(1 - rho)). So
the density of u is that of the uniform distribution at a shifted point.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._tensors import wide
from ..reference import spherical_cauchy
from .steps import linear_log_ratio

__all__ = [
    "log_density_ratio",
    "log_density_slope",
    "logit_mode",
    "reach",
    "variances",
]


def logit_mode(kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """sin2 = (1 - rho)^2/(2 (1 + rho^2)), which the shift moves to 1/2."""
    total = 2 * (1 + kappa.square())
    return spherical_cauchy.gap(kappa).square() / total, (1 + kappa).square() / total


def log_density_slope(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/du log g = b (sin2 - cos2) at the shifted point."""
    sin2, cos2 = _shifted(kappa, sin2, cos2)
    return (d - 1) / 2 * (sin2 - cos2)


def log_density_ratio(
    kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor, slope: Tensor, h: Tensor
) -> Tensor:
    """The ratio of the uniform distribution at the shifted point."""
    return linear_log_ratio((d - 1) / 2, *_shifted(kappa, sin2, cos2), slope, h)[0]


def reach(kappa: Tensor, d: int) -> Tensor:
    """0: the density of u falls from its mode on as that of the uniform distribution does."""
    return torch.zeros_like(kappa)


def variances(kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
    """Var[t] = E[(t - A)^2] by quadrature, and E[1 - t^2]/(d - 1).

    The cosines u and -u of uniform points go to 1 - t = (1 - s)(1 - u)/(1 + s u) and
    (1 - s)(1 + u)/(1 - s u), where s = 2 rho/(1 + rho^2).
    """
    rho = wide(kappa)
    square = 1 + rho.square()
    s = (2 * rho / square).unsqueeze(-1)
    rest = (spherical_cauchy.gap(rho).square() / square).unsqueeze(-1)  # 1 - s

    def both(w: Tensor) -> tuple[Tensor, Tensor]:
        away = 1 / ((w * (1 + w)).sqrt() + (1 + w))  # 1 - u, where u^2 = w/(1 + w)
        near = rest * away / (2 - away - rest * (1 - away))  # 1 + s u = 1 + u - (1 - s) u
        far = rest * (2 - away) / (rest + s * away)  # 1 - s u = (1 - s) + s (1 - u)
        return near, far

    def mean(w: Tensor) -> Tensor:
        near, far = both(w)
        return (near + far) / 2

    centre = spherical_cauchy.expectation(mean, d, s).unsqueeze(-1)  # 1 - A

    def square_off(w: Tensor) -> Tensor:
        near, far = both(w)
        return ((near - centre).square() + (far - centre).square()) / 2

    along = spherical_cauchy.expectation(square_off, d, s)
    return along.to(kappa.dtype), spherical_cauchy.variance_orthogonal(kappa, d)


def _shifted(kappa: Tensor, sin2: Tensor, cos2: Tensor) -> tuple[Tensor, Tensor]:
    """sin2 and cos2 of the uniform point: (1 + rho)^2 sin2/D and (1 - rho)^2 cos2/D, where
    D = (1 + rho)^2 sin2 + (1 - rho)^2 cos2."""
    up, down = (1 + kappa).square() * sin2, spherical_cauchy.gap(kappa).square() * cos2
    return up / (up + down), down / (up + down)

"""Maximum likelihood for Power Spherical, phi = log cos2."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import power_spherical
from . import Fit, Settings, exponential_form

__all__ = ["fit", "log_prob_ratio_dt2"]


def fit(samples: Tensor, weights: Tensor, settings: Settings) -> Fit:
    """`exponential_form.fit` of this family."""
    method = exponential_form.Method(power_spherical, log_prob_ratio_dt2)
    return exponential_form.fit(method, samples, weights, settings)


def log_prob_ratio_dt2(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d2/dt2 (kappa log cos2) = -kappa/(4 cos2^2); 0 at the antipode by definition."""
    antipode = cos2 == 0
    curvature = kappa / (2 * torch.where(antipode, 1.0, cos2)).square()
    return -torch.where(antipode, 0.0, curvature.clamp(max=torch.finfo(curvature.dtype).max))

"""Maximum likelihood for von Mises-Fisher, phi = t - 1."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import von_mises_fisher
from . import Fit, exponential_form

__all__ = ["fit", "log_prob_ratio_dt2"]


def fit(samples: Tensor, weights: Tensor, max_iterations: int, tolerance: float) -> Fit:
    """`exponential_form.fit` of this family."""
    method = exponential_form.Method(von_mises_fisher, log_prob_ratio_dt2)
    return exponential_form.fit(method, samples, weights, max_iterations, tolerance)


def log_prob_ratio_dt2(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d2/dt2 (-2 kappa sin2) = 0."""
    return torch.zeros_like(sin2)

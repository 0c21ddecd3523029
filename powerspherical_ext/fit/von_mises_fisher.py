"""Maximum likelihood for von Mises-Fisher, phi = t - 1, which has sufficient statistics.

With s = sum_i w_i x_i / sum_i w_i, the mean direction is s/|s|, and kappa solves A(kappa) = |s|
(Mardia and Jupp 2000, section 10.3.1). One product of weights and samples yields all of s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import Fit, Settings
from .concentration import concentration
from .directions import fallback, unit
from .products import masses, sums

__all__ = ["fit"]


def fit(samples: Tensor, weights: Tensor, settings: Settings) -> Fit:
    """Mean directions and concentrations, differentiable in both inputs.

    kappa has to match 1 - |s|, which is known to the rounding of float64, absolutely. A mean
    direction is a constant where |s| is below 1e-8.
    """
    mass = masses(weights)
    mean = sums(samples, weights) / mass.unsqueeze(-1)
    is_tiny = mean.detach().square().sum(-1, keepdim=True) < 1e-16
    mu = unit(torch.where(is_tiny, fallback(mean, settings), mean))
    moment = 1 - (mean * mu.detach()).sum(-1)
    kappa, change, at_bound = concentration(settings, mass, moment, moment / 2, samples.shape[-1])
    return Fit(mu, kappa, torch.zeros_like(kappa), change, at_bound)

"""What families with log p = log p(mu) + kappa phi(t) share."""

from __future__ import annotations

from torch import Tensor

__all__ = ["log_density_slope", "reach"]


def log_density_slope(log_prob_ratio_dt: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/du log g, from d/dt log p."""
    return (d - 1) / 2 * (sin2 - cos2) + 2 * sin2 * cos2 * log_prob_ratio_dt


def reach(kappa: Tensor, d: int) -> Tensor:
    """2 log1p(2 kappa/b), b = (d - 1)/2: the length of u over which kappa phi bends, twice."""
    return 2 * (2 * kappa / ((d - 1) / 2)).log1p()

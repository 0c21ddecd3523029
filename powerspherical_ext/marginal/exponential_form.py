"""What families with log p = log p(mu) + kappa phi(t) share."""

from __future__ import annotations

from torch import Tensor

__all__ = ["reach"]


def reach(kappa: Tensor, d: int) -> Tensor:
    """2 log1p(2 kappa/b), b = (d - 1)/2: the length of u over which kappa phi bends, twice."""
    return 2 * (2 * kappa / ((d - 1) / 2)).log1p()

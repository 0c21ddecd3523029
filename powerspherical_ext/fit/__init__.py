"""Maximum likelihood: what an estimator takes and returns. A module here is a family's estimator,
a method that several families share, or what all of them need.

An estimator finds K weighted components on the same samples, in each of B batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["Estimator", "Fit", "Settings"]


class Settings(NamedTuple):
    """How to estimate. Tensors have shapes (B, K, d) and (B, K)."""

    max_iterations: int
    tolerance: float
    scalar: Callable[[str, Tensor], Tensor]  # a scalar function of the family, by name, of kappa
    start: tuple[Tensor, Tensor] | None = None  # mu and kappa; the likelihood does not fall below
    shared: bool = False  # whether the components of a batch have one concentration


class Fit(NamedTuple):
    """What a maximum likelihood estimator returns.

    The fit has converged if ``gradient`` and ``change`` are at most the tolerance. What it returns
    for a component without weight has no meaning, but is no obstacle to the others.
    """

    mu: Tensor  # [B, K, d]
    kappa: Tensor  # [B, K]
    gradient: Tensor  # [B, K]: tangential gradient in mu, relative to the lengths of its terms
    change: Tensor  # [B, K]: the last change of kappa, relative to the scale of kappa
    at_bound: Tensor  # [B, K]: whether kappa is at the upper bound of the estimator


# (samples [B, n, d], weights [B, K, n], settings) -> Fit, differentiable in the first two
Estimator = Callable[[Tensor, Tensor, Settings], Fit]

"""Maximum likelihood: what an estimator takes and returns. A module here is a family's estimator,
or a method that several families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["Estimator", "Fit"]


class Fit(NamedTuple):
    """What a maximum likelihood estimator returns.

    The fit has converged if ``gradient`` and ``change`` are at most the tolerance.
    """

    mu: Tensor  # [..., d]
    kappa: Tensor  # [...]
    gradient: Tensor  # [...]: tangential gradient in mu, relative to the lengths of its terms
    change: Tensor  # [...]: the last change of kappa, relative to the scale of kappa


# (samples [..., n, d], weights [..., n], max_iterations, tolerance) -> Fit
Estimator = Callable[[Tensor, Tensor, int, float], Fit]

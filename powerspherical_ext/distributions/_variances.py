"""The variances of x along its mean direction and across it, as the kernels compute them."""

from __future__ import annotations

from torch import Tensor

from .. import ops
from ..families import Family

__all__ = ["variance_orthogonal", "variance_t"]


class _Scalars:
    """The scalar functions of a family at (kappa, d), by name."""

    def __init__(self, kappa: Tensor, d: int, family: Family) -> None:
        self.kappa, self.d, self.family = kappa.to(ops.common_dtype(kappa)), d, family

    def __call__(self, name: str) -> Tensor:
        function = ops.ScalarFunction[name.upper()]
        return ops.scalar_function(function, self.kappa, self.d, self.family)


def variance_t(concentration: Tensor, d: int, family: Family) -> Tensor:
    """Var[t], shape (...)."""
    scalar = _Scalars(concentration, d, family)
    return family.marginal.variance_t(scalar.kappa, d, scalar)


def variance_orthogonal(concentration: Tensor, d: int, family: Family) -> Tensor:
    """E[1 - t^2]/(d - 1), shape (...): the variance in each direction orthogonal to the mean."""
    scalar = _Scalars(concentration, d, family)
    return family.marginal.variance_orthogonal(scalar.kappa, d, scalar)

"""The variances of x along its mean direction and across it."""

from __future__ import annotations

from torch import Tensor

from .. import ops
from ..families import Family

__all__ = ["variances"]


def variances(concentration: Tensor, d: int, family: Family) -> tuple[Tensor, Tensor]:
    """Var[t], and the variance in each direction orthogonal to the mean, shape (...)."""
    if ops.is_sharded(concentration):
        here = ops.rows_here((), (concentration,))
        along, orthogonal = variances(here.local[0], d, family)
        return here.whole(along), here.whole(orthogonal)
    kappa = concentration.to(ops.common_dtype(concentration))

    def scalar(name: str) -> Tensor:
        return ops.scalar_function(ops.ScalarFunction[name.upper()], kappa, d, family)

    return family.marginal.variances(kappa, d, scalar)

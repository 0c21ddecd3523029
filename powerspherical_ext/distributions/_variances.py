"""The variances of x along its mean direction and across it."""

from __future__ import annotations

from torch import Tensor

from .. import ops
from .._tensors import is_dtensor, wide
from ..families import Family

__all__ = ["variances"]


def variances(concentration: Tensor, d: int, family: Family) -> tuple[Tensor, Tensor]:
    """Var[t], and the variance in each direction orthogonal to the mean, shape (...).

    In float64 (on devices that have it), since what is made of them is rounded once.
    """
    if is_dtensor(concentration):
        rows = ops.own_rows((), (concentration,))
        along, orthogonal = variances(rows.local[0], d, family)
        return rows.whole(along), rows.whole(orthogonal)
    kappa = family.inside(wide(concentration))

    def scalar(name: str) -> Tensor:
        return ops.scalar_function(ops.ScalarFunction[name.upper()], kappa, d, family)

    return family.marginal.variances(kappa, d, scalar)

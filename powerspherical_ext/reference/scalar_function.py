"""The scalar functions of (kappa, d) of a family by name; see csrc/scalar_function.h."""

from __future__ import annotations

from torch import Tensor

from .._tensors import wide
from .area import log_area
from .contract import FamilyReference

__all__ = ["scalar_function"]


def scalar_function(name: str, kappa: Tensor, d: int, family: FamilyReference) -> Tensor:
    """Computed in float64 (on devices that have it) and rounded once, as the kernels do.

    The terms of some functions nearly cancel.
    """
    k = wide(kappa)
    result: Tensor = entropy(k, d, family) if name == "entropy" else getattr(family, name)(k, d)
    return result.to(kappa.dtype)


def entropy(kappa: Tensor, d: int, family: FamilyReference) -> Tensor:
    """log_area - KL(p || uniform)."""
    return log_area(d) - family.kl_uniform(kappa, d)

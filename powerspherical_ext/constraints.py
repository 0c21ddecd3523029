"""Constraints that torch.distributions lacks.

Their answer to a DTensor is a plain tensor, since Distribution asks whether all of it is true by an
operator that DTensors lack.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from ._tensors import whole

__all__ = ["below_one", "concentration", "finite_nonnegative", "sphere"]

UPPER_BOUND = 2.0**50  # kUpperBound of csrc/math/types.h


class _Sphere(Constraint):
    """Unit vectors along the last dimension, at least two-dimensional.

    Computed in at least float32, within 10 eps sqrt(d), eps of the tensor's own dtype, and never
    more than 0.01: so a bfloat16 unit vector passes, and zero or 1.02 e1 does not.
    """

    event_dim = 1

    def check(self, value: Any) -> Tensor:
        x: Tensor = value
        d = x.shape[-1]
        tolerance = min(10 * torch.finfo(x.dtype).eps * d**0.5, 1e-2)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        on_sphere: Tensor = (torch.linalg.vector_norm(wide, dim=-1) - 1).abs() <= tolerance
        return whole(on_sphere)

    def __repr__(self) -> str:
        return "Sphere()"


class _FiniteNonnegative(Constraint):
    """0 <= x < upper_bound."""

    lower_bound = 0.0

    def __init__(self, upper_bound: float = math.inf) -> None:
        self.upper_bound = upper_bound

    def check(self, value: Any) -> Tensor:
        valid: Tensor = (value >= 0) & (value < self.upper_bound)
        return whole(valid)

    def __repr__(self) -> str:
        if self.upper_bound == math.inf:
            return "FiniteNonnegative()"
        bounds = f"0 <= x < {self.upper_bound:g}"
        return f"FiniteNonnegative({bounds}; transform_to maps real numbers there)"


sphere = _Sphere()
finite_nonnegative = _FiniteNonnegative()
below_one = _FiniteNonnegative(1.0)
concentration = _FiniteNonnegative(UPPER_BOUND)  # of a family that has no bound of its own

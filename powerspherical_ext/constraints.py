"""Constraints that torch.distributions lacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

__all__ = ["finite_nonnegative", "sphere"]


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
        return on_sphere

    def __repr__(self) -> str:
        return "Sphere()"


class _FiniteNonnegative(Constraint):
    """0 <= x < infinity."""

    def check(self, value: Any) -> Tensor:
        valid: Tensor = (value >= 0) & (value < float("inf"))
        return valid

    def __repr__(self) -> str:
        return "FiniteNonnegative()"


sphere = _Sphere()
finite_nonnegative = _FiniteNonnegative()

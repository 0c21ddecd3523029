"""Constraints that torch.distributions lacks -> csrc/constraint.h, csrc/cpu/constraint.cpp.

A kernel checks tensors on the CPU in one pass, without temporaries. Plain torch checks tensors on
other devices, and in programs that are traced or transformed. The two add up the squares of a
vector in different orders, so that they may differ on one whose length is off by the tolerance.

Their answer to a DTensor is a plain tensor, since Distribution asks whether all of it is true by an
operator that DTensors lack.

Example:
    >>> sphere.check(torch.tensor([[0.6, 0.8], [0.6, 0.9]]))
    tensor([ True, False])
    >>> below_one.check(torch.tensor([0.0, 0.5, 1.0]))
    tensor([ True,  True, False])
    >>> concentration.check(torch.tensor([0.0, 1e15, 2e15]))
    tensor([ True,  True, False])
    >>> finite_nonnegative.check(torch.tensor([0.0, -1.0, torch.inf]))
    tensor([ True, False, False])
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from ._kernels import can_check, raw_op, register_fake
from ._tensors import whole

__all__ = ["below_one", "concentration", "finite_nonnegative", "sphere"]

UPPER_BOUND = 2.0**50  # kUpperBound of csrc/math/types.h

_on_sphere = raw_op("on_sphere")[1]
_in_interval = raw_op("in_interval")[1]


class _Sphere(Constraint):
    """The class of `sphere`."""

    event_dim = 1

    def check(self, value: Any) -> Tensor:
        x: Tensor = value
        tolerance = self.tolerance(x)
        on_sphere: Tensor
        if can_check(x) and x.shape[-1] >= 2:
            on_sphere = _on_sphere(x, tolerance)
            return on_sphere
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        on_sphere = (torch.linalg.vector_norm(wide, dim=-1) - 1).abs() <= tolerance
        return whole(on_sphere)

    def tolerance(self, x: Tensor) -> float:
        """How much the lengths of vectors x (..., d) may differ from 1."""
        tolerance: float = min(10 * torch.finfo(x.dtype).eps * x.shape[-1] ** 0.5, 1e-2)
        return tolerance

    def __repr__(self) -> str:
        return "Sphere()"


class _FiniteNonnegative(Constraint):
    """0 <= x < upper_bound."""

    lower_bound = 0.0

    def __init__(self, upper_bound: float = math.inf) -> None:
        self.upper_bound = upper_bound

    def check(self, value: Any) -> Tensor:
        x: Tensor = value
        if can_check(x):
            valid: Tensor = _in_interval(x, self.lower_bound, self.upper_bound)
            return valid
        return whole((x >= self.lower_bound) & (x < self.upper_bound))

    def __repr__(self) -> str:
        if self.upper_bound == math.inf:
            return "FiniteNonnegative()"
        bounds = f"0 <= x < {self.upper_bound:g}"
        return f"FiniteNonnegative({bounds}; transform_to maps real numbers there)"


sphere = _Sphere()
"""Unit vectors along the last dimension, of length d >= 2.

Lengths are computed in at least float32. They may differ from 1 by 10 eps sqrt(d), eps of the
tensor's own dtype, and never by more than 0.01. ``transform_to(sphere)`` divides a vector by its
length; ``biject_to(sphere)`` raises ``NotImplementedError``.
"""

finite_nonnegative = _FiniteNonnegative()
"""Numbers from 0 to below infinity."""

below_one = _FiniteNonnegative(1.0)
"""Numbers from 0 to below 1, the concentrations of the spherical Cauchy distribution."""

concentration = _FiniteNonnegative(UPPER_BOUND)
"""Numbers from 0 to below 2^50, the concentrations of a family that has no bound of its own."""


@register_fake("on_sphere")
def _(value: Tensor, tolerance: float) -> Tensor:
    d = value.shape[-1]
    torch._check(d >= 2, lambda: f"powerspherical_ext: the sphere needs d >= 2, got {d}")
    return value.new_empty(value.shape[:-1], dtype=torch.bool)


@register_fake("in_interval")
def _(value: Tensor, lower: float, upper: float) -> Tensor:
    return torch.empty_like(value, dtype=torch.bool, memory_format=torch.contiguous_format)

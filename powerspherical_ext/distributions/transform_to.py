"""How real numbers become parameters: what `torch.distributions.transform_to` makes of a constraint
of this package.

`transform_to` carries real tensors to points that satisfy a constraint, for an optimiser that knows
no constraints. `biject_to` also promises an inverse and a log determinant.

Example:
    >>> from powerspherical_ext import PowerSpherical
    >>> loc = transform_to(PowerSpherical.arg_constraints["loc"])
    >>> concentration = transform_to(PowerSpherical.arg_constraints["concentration"])
    >>> PowerSpherical(loc(torch.tensor([3.0, 4.0])), concentration(torch.tensor(0.0)))
    PowerSpherical(loc: torch.Size([2]), concentration: 0.6931471824645996)
    >>> loc(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform

from ..constraints import finite_nonnegative, sphere

__all__ = ["into_domain"]

_LARGE = 1e6  # a softplus serves domains that end beyond it


def into_domain(x: Tensor, end: float, scale: float = 1.0) -> Tensor:
    """Maps real numbers to the inside of [0, end): scale softplus(x), or end sigmoid(x) where the
    end is no large number.

    Rounding and overflow reach neither end. softplus(x) is 0 for x < -100 in float32, sigmoid(x) is
    1 for x > 17: the smallest normal number and the largest number below the end take their place.
    """
    info = torch.finfo(x.dtype)
    y = scale * F.softplus(x) if end > _LARGE else end * torch.sigmoid(x)
    return y.clamp(info.tiny, min(end * (1 - info.eps / 2), info.max))


class _IntoDomain(Transform):
    """`into_domain` and its inverse."""

    domain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, codomain: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.codomain = codomain
        self.end = getattr(codomain, "upper_bound", torch.inf)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _IntoDomain) and self.end == other.end

    def __hash__(self) -> int:
        return hash(self.end)

    def with_cache(self, cache_size: int = 1) -> _IntoDomain:
        return _IntoDomain(self.codomain, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return into_domain(x, self.end)

    def _inverse(self, y: Tensor) -> Tensor:
        if self.end > _LARGE:
            return y + (-torch.expm1(-y)).log()
        return y.log() - (self.end - y).log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = -F.softplus(-x)  # the logarithm of sigmoid(x), the slope of softplus
        if self.end <= _LARGE:
            result = result - F.softplus(x) + math.log(self.end)
        return result


class _Direction(Transform):
    """x/|x|. Where |x| is 0, or below the smallest normal number, it is the first unit vector and
    has no slope: a vector that short has no direction that its gradient could be taken of."""

    domain = constraints.independent(constraints.real, 1)
    codomain = sphere

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Direction)

    def __hash__(self) -> int:
        return hash(_Direction)

    def _call(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        size = wide.detach().abs().amax(-1, keepdim=True)
        none = size < torch.finfo(wide.dtype).tiny
        scaled = wide / torch.where(none, 1.0, size)  # so that no square over- or underflows
        first = torch.zeros_like(wide)
        first[..., 0] = 1
        scaled = torch.where(none, first, scaled)
        length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
        result: Tensor = (scaled / length).to(x.dtype)
        return result

    def _inverse(self, y: Tensor) -> Tensor:
        return y

    def forward_shape(self, shape: Size) -> Size:
        return shape

    def inverse_shape(self, shape: Size) -> Size:
        return shape


@transform_to.register(sphere)
def _transform_to_sphere(constraint: Any) -> Transform:
    return _Direction()


@biject_to.register(sphere)
def _biject_to_sphere(constraint: Any) -> Transform:
    raise NotImplementedError(
        "biject_to: there is no smooth bijection of real vectors onto a sphere; take transform_to, "
        "which divides a vector by its length"
    )


@biject_to.register(finite_nonnegative)
@transform_to.register(finite_nonnegative)
def _into_nonnegative(constraint: Any) -> Transform:
    return _IntoDomain(constraint)

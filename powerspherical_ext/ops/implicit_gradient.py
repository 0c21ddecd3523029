"""(dt/dkappa)/(1 - t^2) at a fixed quantile of t: an op that no kernel computes by itself."""

from __future__ import annotations

from torch import Tensor

from ..families import FAMILIES
from ._dispatch import batch_shape, is_differentiable, python_op, register_autograd, register_fake

__all__ = ["implicit_gradient"]


@python_op("implicit_gradient(Tensor kappa, Tensor sin2, Tensor cos2, int d, int family) -> Tensor")
def _reference(kappa: Tensor, sin2: Tensor, cos2: Tensor, d: int, family: int) -> Tensor:
    return FAMILIES[family].reference.implicit_gradient(kappa, d, sin2, cos2)


@register_autograd("implicit_gradient")
def implicit_gradient(kappa: Tensor, sin2: Tensor, cos2: Tensor, d: int, family: int) -> Tensor:
    """Of tensors that broadcast; its own gradient is that of the reference."""
    if is_differentiable(kappa, sin2, cos2):
        return FAMILIES[family].reference.implicit_gradient(kappa, d, sin2, cos2)
    return _reference(kappa, sin2, cos2, d, family)


@register_fake("implicit_gradient")
def _(kappa: Tensor, sin2: Tensor, cos2: Tensor, d: int, family: int) -> Tensor:
    return kappa.new_empty(batch_shape(kappa.shape, sin2.shape, cos2.shape))

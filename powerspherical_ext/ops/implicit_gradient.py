"""(dt/dkappa)/(1 - t^2) at a fixed quantile of t, as an op of plain torch."""

from __future__ import annotations

from torch import Tensor

from .._kernels import register_autograd, register_fake
from .._tensors import ROWS, by_rows
from ..families import FAMILIES
from ._dispatch import batch_shape, python_op

__all__ = ["implicit_gradient"]


@python_op("implicit_gradient(Tensor kappa, Tensor sin2, Tensor cos2, int d, int family) -> Tensor")
def implicit_gradient(kappa: Tensor, sin2: Tensor, cos2: Tensor, d: int, family: int) -> Tensor:
    """Of tensors that broadcast, for the family of that index."""
    function = FAMILIES[family].reference.implicit_gradient
    return by_rows(lambda k, s, c: function(k, d, s, c), ROWS, kappa, sin2, cos2)


register_autograd("implicit_gradient")(implicit_gradient)


@register_fake("implicit_gradient")
def _(kappa: Tensor, sin2: Tensor, cos2: Tensor, d: int, family: int) -> Tensor:
    return kappa.new_empty(batch_shape(kappa.shape, sin2.shape, cos2.shape))

"""Two helpers that several rooms of the package share."""

from __future__ import annotations

from torch import Tensor

__all__ = ["sum_to", "wide"]


def wide(x: Tensor) -> Tensor:
    """x in float64. On mps, which has no float64, x as it is."""
    return x if x.device.type == "mps" else x.double()


def sum_to(grad: Tensor, like: Tensor) -> Tensor:
    """The gradient of a tensor that was broadcast, summed to the shape of that tensor."""
    return grad if grad.shape == like.shape else grad.sum_to_size(like.shape)

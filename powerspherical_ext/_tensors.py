"""Helpers that several rooms of the package share."""

from __future__ import annotations

from torch import Tensor

__all__ = ["same_shape", "sum_to", "wide"]


def same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether a == b. Python compares (4,) with (n, 5) by asking whether 4 == n, so that a traced
    program would be valid for batch sizes n other than 4 only."""
    return len(a) == len(b) and a == b


def wide(x: Tensor) -> Tensor:
    """x in float64. On mps, which has no float64, x as it is."""
    return x if x.device.type == "mps" else x.double()


def sum_to(grad: Tensor, like: Tensor) -> Tensor:
    """The gradient of a tensor that was broadcast, summed to the shape of that tensor."""
    return grad if same_shape(grad.shape, like.shape) else grad.sum_to_size(like.shape)

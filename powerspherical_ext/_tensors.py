"""Helpers that several rooms of the package share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["savable", "sum_to", "wide"]


def wide(x: Tensor) -> Tensor:
    """x in float64. On mps, which has no float64, x as it is."""
    return x if x.device.type == "mps" else x.double()


def sum_to(grad: Tensor, like: Tensor) -> Tensor:
    """The gradient of a tensor that was broadcast, summed to the shape of that tensor."""
    return grad if grad.shape == like.shape else grad.sum_to_size(like.shape)


def savable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as autograd can save them: copies of those made under torch.inference_mode.

    torch.compile reads a program before it sees its tensors, and cannot ask which mode made them.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        for x in tensors:  # a loop, since any(...) takes longer
            if x.is_inference():
                return tuple(x.clone() if x.is_inference() else x for x in tensors)
    return tensors

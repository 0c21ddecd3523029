"""Helpers that several rooms of the package share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "ROWS",
    "by_rows",
    "everywhere",
    "is_dtensor",
    "same_shape",
    "savable",
    "sum_to",
    "whole",
    "wide",
]

ROWS = 2**16  # elements that a quadrature takes at a time: up to some 400 MB of temporaries

_PLAIN = (Tensor, torch.nn.Parameter)


def by_rows(f: Callable[..., Tensor], rows: int, *tensors: Tensor) -> Tensor:
    """f(*tensors) for an elementwise f, of at most that many elements at a time, which bounds the
    memory that f takes."""
    tensors = torch.broadcast_tensors(*tensors)
    if tensors[0].numel() <= rows:
        return f(*tensors)
    parts = zip(*(x.reshape(-1).split(rows) for x in tensors), strict=True)
    return torch.cat([f(*part) for part in parts]).view(tensors[0].shape)


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


def savable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as autograd can save them: copies of those made under torch.inference_mode.

    torch.compile reads a program before it sees its tensors, and cannot ask which mode made them.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        for x in tensors:  # a loop, since any(...) takes longer
            if x.is_inference():
                return tuple(x.clone() if x.is_inference() else x for x in tensors)
    return tensors


def is_dtensor(x: Tensor) -> bool:
    """Whether ``x`` is a DTensor: one whose parts lie in several processes.

    torch.distributed.tensor, which takes a second to load, is not loaded before there is one.
    """
    if type(x) in _PLAIN:
        return False
    return isinstance(x, getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", ()))


def everywhere(x: Tensor, like: Any) -> Tensor:
    """A tensor that is the same in all processes, as a DTensor where ``like`` is one."""
    if is_dtensor(x) or not is_dtensor(like):
        return x
    from ._sharding import replicated

    return replicated(x, like.device_mesh)


def whole(x: Any) -> Tensor:
    """A plain tensor: of a DTensor, that of all processes."""
    result: Tensor = x.full_tensor() if is_dtensor(x) else x
    return result

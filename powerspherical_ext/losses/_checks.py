"""Checks of the tensors that losses and heads are given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import ops

__all__ = [
    "check_features",
    "check_finite",
    "check_kind",
    "check_matrices",
    "check_shape",
    "values_are_cheap",
]

Arguments = Sequence[tuple[str, Sequence[Tensor]]]  # the tensors of each argument, by its name


def check_kind(arguments: Arguments) -> None:
    """The tensors are floating-point, and on the device of the first."""
    first_name, (first, *_) = arguments[0]
    device = first.device
    for name, tensors in arguments:
        for x in tensors:
            if not x.is_floating_point():
                raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}")
            if x.device != device:
                raise ValueError(
                    f"{name} must be on the device of {first_name}, {device}, got {x.device}"
                )


def check_shape(arguments: Arguments, any_batch: bool = False) -> None:
    """The tensors have one shape: (N, d), or with ``any_batch`` (..., d)."""
    first_name, (first, *_) = arguments[0]
    shape = first.shape
    if any_batch and (not shape or shape[-1] < 2):
        raise ValueError(f"{first_name} must have shape (..., d) with d >= 2, got {tuple(shape)}")
    if not any_batch and (len(shape) != 2 or shape[1] < 2):
        raise ValueError(f"{first_name} must have shape (N, d) with d >= 2, got {tuple(shape)}")
    for name, tensors in arguments:
        for x in tensors:
            if x.shape != shape:
                raise ValueError(
                    f"{name} must have the shape {tuple(shape)} of {first_name}, "
                    f"got {tuple(x.shape)}"
                )


def check_features(name: str, x: Tensor, size: int, any_batch: bool = False) -> None:
    """The tensor is floating-point, of shape (N, size), or with ``any_batch`` (..., size)."""
    check_kind([(name, [x])])
    if not x.ndim or x.shape[-1] != size or not (any_batch or x.ndim == 2):
        batch = "..." if any_batch else "N"
        raise ValueError(f"{name} must have shape ({batch}, {size}), got {tuple(x.shape)}")


def check_finite(arguments: Arguments) -> None:
    """No value is NaN or infinite; checked only where `values_are_cheap`.

    Elsewhere the loss becomes NaN, which every trainer looks for.
    """
    for name, tensors in arguments:
        for x in tensors:
            if values_are_cheap(x) and not bool(x.detach().isfinite().all()):
                raise ValueError(f"{name} must be finite, got NaN or infinite values")


def check_matrices(arguments: Arguments) -> None:
    """The tensors are floating-point, on one device, of one shape (N, d), and finite."""
    check_kind(arguments)
    check_shape(arguments)
    check_finite(arguments)


def values_are_cheap(x: Tensor) -> bool:
    """A check may read the values of x, and need not wait for the work that a GPU has queued."""
    return x.device.type == "cpu" and ops.values_are_readable(x)

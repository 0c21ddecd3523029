"""Checks of arguments that several distributions share."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from .._kernels import values_are_readable
from .._tensors import is_dtensor, same_shape, whole, wide
from ..constraints import sphere

__all__ = [
    "as_number",
    "as_size",
    "at_index",
    "broadcast_shapes",
    "can_validate",
    "check_float",
    "check_loc",
    "check_unit",
    "check_value",
    "copy_validation",
    "validates",
]


def as_number(owner: str, argument: str, value: Any, like: Tensor) -> Tensor:
    """A concentration, or another real number, as a floating-point tensor.

    A number, Python's or NumPy's, and a tensor of integers or booleans take the dtype of ``like``.
    """
    if isinstance(value, Tensor):
        if value.is_floating_point():
            return value
        if not value.is_complex():
            return value.to(like.dtype)
        raise TypeError(f"{owner}: {argument} must be real, got {value.dtype}")
    number = value
    if not isinstance(number, int | float) and getattr(number, "shape", None) == ():
        number = number.item()  # of a NumPy scalar, or an array without dimensions
    if not isinstance(number, int | float):
        if not isinstance(number, Real):
            raise TypeError(
                f"{owner}: {argument} must be a tensor or a real number, got {type(value).__name__}"
            )
        number = float(number)
    try:
        return like.new_tensor(number)
    except OverflowError:
        raise ValueError(
            f"{owner}: {argument} must fit into {like.dtype}, got an integer of "
            f"{number.bit_length()} bits"
        ) from None


def as_size(sample_shape: Any) -> Size:
    """A sample shape; a bare number of samples is one as well, also of NumPy or torch."""
    if isinstance(sample_shape, int):
        return Size((sample_shape,))
    try:
        return Size(sample_shape)
    except TypeError:
        pass
    try:
        return Size((operator.index(sample_shape),))
    except TypeError:
        raise TypeError(
            "sample_shape must be a shape such as (2, 3), or a number of samples, got "
            f"{sample_shape!r}"
        ) from None


def broadcast_shapes(a: Size, b: Size) -> Size:
    """Like torch's, which takes longer than the density of a small batch."""
    if same_shape(a, b) or not b:
        return a
    return torch.broadcast_shapes(a, b) if a else b


def check_value(p: Distribution, value: Tensor, device: torch.device) -> None:
    """Whether log_prob can take ``value``: its type, device and shape, but not its entries."""
    if (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and same_shape(value.shape, p._batch_shape + p._event_shape)
        and value.device == device
    ):
        return  # before any time is spent on messages and broadcasting
    owner = f"{type(p).__name__}.log_prob"
    check_float(owner, "value", value)
    if value.device != device:
        raise ValueError(f"{owner}: value must be on the device of p, {device}, got {value.device}")
    try:
        fits = value.shape[-1:] == p.event_shape
        broadcast_shapes(value.shape[:-1], p.batch_shape)
    except RuntimeError:
        fits = False
    if not fits:
        wanted = "(..., " + ", ".join(map(str, p.batch_shape + p.event_shape)) + ")"
        raise ValueError(
            f"{owner}: value must have a shape that broadcasts against {wanted}, "
            f"got {tuple(value.shape)}"
        )


def check_float(owner: str, argument: str, value: object) -> None:
    """TypeError unless ``value`` is a floating-point tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{owner}: {argument} must be a tensor, got {type(value).__name__}: make it one by "
            f"torch.as_tensor({argument})"
        )
    if not value.is_floating_point():
        remedy = "" if value.is_complex() else f": convert it by {argument}.float()"
        raise TypeError(
            f"{owner}: {argument} must have a floating-point dtype, got {value.dtype}{remedy}"
        )


def check_loc(owner: str, loc: Tensor) -> None:
    """Whether ``loc`` can hold directions: its type and shape, but not its entries."""
    check_float(owner, "loc", loc)
    if loc.dim() == 0 or loc.shape[-1] < 2:
        raise ValueError(
            f"{owner}: loc must have shape (..., d) with d >= 2, got {tuple(loc.shape)}"
        )


def at_index(index: tuple[int, ...]) -> str:
    """Where an entry of a batch is, for an error; nothing where there is no batch."""
    return f" at index {index[0] if len(index) == 1 else index}" if index else ""


def check_unit(owner: str, argument: str, x: Tensor, remedy: str = "") -> None:
    """ValueError, with one more remedy, unless ``x`` (..., d) holds unit vectors."""
    right = sphere.check(x)
    if torch._is_all_true(right):  # which vmap takes, too
        return
    wrong = ~right
    lengths = whole(torch.linalg.vector_norm(wide(x.detach()), dim=-1))
    off = (lengths - 1).abs().nan_to_num(torch.inf).masked_fill(~wrong, 0.0)
    at = int(off.argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), off.shape))
    where = f",{at_index(index)}," if index else ""
    length = float(lengths.reshape(-1)[at])
    raise ValueError(
        f"{owner}: {argument} must be unit vectors, to within {sphere.tolerance(x):.2g} in "
        f"{x.dtype}, but {int(wrong.sum())} of {wrong.numel()} are not; the worst{where} has the "
        f"length {length:.6g}, which is off by {abs(length - 1):.2g}. In that dtype, "
        f"torch.nn.functional.normalize({argument}, dim=-1) divides vectors by their lengths"
        f"{remedy}"
    ) from None


def validates(p: Distribution, value: Tensor) -> bool:
    """Whether p checks ``value``: where its maker asked for it by name, or else where that can be
    done."""
    asked = vars(p).get("_validate_args") is True  # torch sets it only where it is given
    return bool(p._validate_args) and (asked or can_validate(value))


def copy_validation(p: Distribution, new: Distribution) -> None:
    """Makes ``new`` validate as ``p`` does, by name or by default."""
    vars(new).pop("_validate_args", None)
    if "_validate_args" in vars(p):
        new._validate_args = p._validate_args


def can_validate(x: Tensor) -> bool:
    """Whether values like ``x`` can be checked: Python reads them, or all of a DTensor."""
    return values_are_readable(x) or is_dtensor(x)

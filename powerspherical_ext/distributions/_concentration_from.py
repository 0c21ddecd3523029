"""Concentrations from rates and angles, as the classes take them: shapes, types and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import ops
from .._tensors import savable, wide
from ..families import Family
from ..inverse.cap import angle_quantile, concentration_of_cap
from ..inverse.concentration import concentration_of, largest
from ..ops import ScalarFunction
from ..reference import log_area
from ._arguments import as_number, at_index, broadcast_shapes, check_loc

__all__ = ["angle_of_cap", "from_angle", "from_entropy", "from_kl", "from_mean_cosine"]

_KL, _COSINE = ScalarFunction.KL_UNIFORM, ScalarFunction.MEAN_RESULTANT_LENGTH


def from_kl(owner: str, family: Family, loc: Tensor, nats: Any, validate: bool) -> Tensor:
    d, (nats,) = _prepare(owner, loc, nats=nats)
    kappa = concentration_of(nats, _KL, d, family, nats.dtype)
    if validate:
        _check(owner, "nats", nats, kappa, lambda _: (_at_last(_KL, nats, d, family), 0.0))
    return kappa


def from_entropy(owner: str, family: Family, loc: Tensor, nats: Any, validate: bool) -> Tensor:
    d, (nats,) = _prepare(owner, loc, nats=nats)
    # An entropy that was computed in this dtype may be beyond that of the uniform by rounding.
    rounding = 4 * torch.finfo(nats.dtype).eps * abs(log_area(d))
    kappa = concentration_of(log_area(d) - wide(nats), _KL, d, family, nats.dtype, rounding)
    if validate:
        top = _at_last(_KL, nats, d, family)
        _check(owner, "nats", nats, kappa, lambda _: (log_area(d) - top, log_area(d)))
    return kappa


def from_mean_cosine(
    owner: str, family: Family, loc: Tensor, cosine: Any, validate: bool
) -> Tensor:
    d, (cosine,) = _prepare(owner, loc, cosine=cosine)
    kappa = concentration_of(cosine, _COSINE, d, family, cosine.dtype)
    if validate:
        _check(
            owner, "cosine", cosine, kappa, lambda _: (_at_last(_COSINE, cosine, d, family), 0.0)
        )
    return kappa


def from_angle(
    owner: str, family: Family, loc: Tensor, angle: Any, p: Any, validate: bool
) -> Tensor:
    d, (angle, p) = _prepare(owner, loc, angle=angle, p=p)
    _check_broadcast(owner, "p", p, "angle", angle)
    angle, p = torch.broadcast_tensors(angle, p)
    if validate:
        _check_probability(owner, p, "between 0 and 1", (p > 0) & (p < 1))
    kappa = concentration_of_cap(angle, p, d, family)
    if validate:

        def angles(index: Any) -> tuple[float, float]:
            ends = angle.new_tensor([largest(family, angle.dtype), 0.0])
            last, uniform = angle_quantile(p[index].detach(), ends, d, family).tolist()
            return last, uniform

        _check(owner, "angle", angle, kappa, angles)
    return kappa


def angle_of_cap(
    owner: str, family: Family, concentration: Tensor, p: Any, d: int, validate: bool
) -> Tensor:
    p = as_number(owner, "p", p, concentration)
    if p.device != concentration.device:
        raise ValueError(
            f"{owner}: p must be on the device of concentration, {concentration.device}, "
            f"got {p.device}"
        )
    _check_broadcast(owner, "p", p, "the batch", concentration)
    if validate:
        _check_probability(owner, p, "from 0 to 1", (p >= 0) & (p <= 1))
    dtype = ops.common_dtype(p, concentration)
    p, kappa = savable(p.to(dtype), family.inside(concentration.to(dtype)))
    return angle_quantile(p, kappa, d, family)


def _prepare(owner: str, loc: Tensor, **given: Any) -> tuple[int, tuple[Tensor, ...]]:
    """d, and the numbers as tensors of the dtype that they share with loc, and on its device."""
    check_loc(owner, loc)
    tensors = [as_number(owner, name, x, loc) for name, x in given.items()]
    for name, x in zip(given, tensors, strict=True):
        if x.device != loc.device:
            raise ValueError(
                f"{owner}: {name} must be on the device of loc, {loc.device}, got {x.device}"
            )
    dtype = torch.promote_types(loc.dtype, tensors[0].dtype)
    for x in tensors[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    return loc.shape[-1], savable(*(x.to(dtype) for x in tensors))


def _at_last(function: ScalarFunction, like: Tensor, d: int, family: Family) -> float:
    """The function at the largest concentration."""
    last = torch.tensor(largest(family, like.dtype), dtype=torch.float64)
    return ops.scalar_function(function, last, d, family).item()


def _check(
    owner: str, name: str, x: Tensor, kappa: Tensor, ends: Callable[[Any], tuple[float, float]]
) -> None:
    """ValueError where there is no concentration. At an index, ``ends`` gives the numbers of the
    largest concentration and of the uniform distribution."""
    wrong = kappa.detach().isnan()
    if not wrong.any():
        return
    index = tuple(wrong.nonzero()[0].tolist())
    last, uniform = ends(index)
    given = x[index].item()
    digits = 17 if f"{given:.6g}" in (f"{last:.6g}", f"{uniform:.6g}") else 6
    raise ValueError(
        f"{owner}: {name} must be between {last:.{digits}g} (the largest concentration) and "
        f"{uniform:.{digits}g} (the uniform distribution), got {given:.{digits}g}"
        f"{at_index(index)}"
    )


def _check_broadcast(owner: str, name: str, x: Tensor, of: str, other: Tensor) -> None:
    try:
        broadcast_shapes(other.shape, x.shape)
    except RuntimeError:
        raise ValueError(
            f"{owner}: {name} must broadcast against the shape {tuple(other.shape)} of {of}, got "
            f"{tuple(x.shape)}"
        ) from None


def _check_probability(owner: str, p: Tensor, wanted: str, valid: Tensor) -> None:
    if not valid.all():
        raise ValueError(
            f"{owner}: p must be a probability {wanted}, got {p[~valid][0].item():.6g}"
        )

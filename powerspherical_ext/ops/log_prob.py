"""The log-density of rows -> csrc/log_prob.h, csrc/cpu/log_prob.cpp, csrc/cuda/log_prob.cu."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import reference
from .._decompositions import register_decomposition
from .._kernels import (
    can_check,
    has_kernel,
    is_compiling,
    is_tracing,
    raw_op,
    register_autograd,
    register_fake,
)
from .._tensors import is_dtensor, savable, sum_to
from ..families import FAMILIES, Family
from ._dispatch import (
    NeedsGrad,
    batch_shape,
    differentiable_vjp,
    fake_batch,
    fake_vectors,
    for_kernel,
    is_differentiable,
    own_rows,
    promote,
    summed,
)

__all__ = ["log_prob", "log_prob_on_sphere"]

_op, _kernel = raw_op("log_prob")
_on_sphere_kernel = raw_op("log_prob_on_sphere")[1]
_backward_kernel = raw_op("log_prob_backward")[1]


def log_prob(value: Tensor, loc: Tensor, concentration: Tensor, family: Family) -> Tensor:
    """Log-density at ``value`` (..., d) for ``loc`` (..., d) and ``concentration`` (...).

    Computed and returned in the common dtype of the three, and at least in float32.
    """
    result: Tensor
    if not has_kernel(value):
        if is_dtensor(value):
            rows = own_rows((value, loc), (concentration,))
            value, loc, concentration = rows.local
            return rows.whole(log_prob(value, loc, concentration, family))
        value, loc, concentration = savable(value, loc, concentration)
        return _reference(value, loc, concentration, family)
    value, loc, concentration = for_kernel(value, loc, concentration)
    if is_compiling() or is_tracing():
        result = _op(value, loc, concentration, family.index)
    elif _needs_grad(value, loc, concentration):
        result = _LogProb.apply(*savable(value, loc, concentration), family.index)
    else:
        result = _kernel(value, loc, concentration, family.index)
    return result


def log_prob_on_sphere(
    value: Tensor, loc: Tensor, concentration: Tensor, family: Family, tolerance: float
) -> Tensor | None:
    """`log_prob`, or None where |value| is not 1 within the tolerance in some row.

    It reads the value once. It is also None where no kernel does both.
    """
    if not can_check(value):
        return None
    value, loc, concentration = for_kernel(value, loc, concentration)
    if _needs_grad(value, loc, concentration):
        value, loc, concentration = savable(value, loc, concentration)
        result, off_sphere = _LogProb.apply(value, loc, concentration, family.index, tolerance)
    else:
        result, off_sphere = _on_sphere_kernel(value, loc, concentration, family.index, tolerance)
    return None if off_sphere else result


def _needs_grad(value: Tensor, loc: Tensor, concentration: Tensor) -> bool:
    return torch.is_grad_enabled() and (
        value.requires_grad or loc.requires_grad or concentration.requires_grad
    )


def _reference(value: Tensor, mu: Tensor, kappa: Tensor, family: Family) -> Tensor:
    value, mu, kappa = promote(value, mu, kappa)
    return reference.log_prob(value, mu, family.inside(kappa), family.reference)


@register_decomposition("log_prob")
def _(value: Tensor, mu: Tensor, kappa: Tensor, family: int) -> Tensor:
    return _reference(value, mu, kappa, FAMILIES[family])


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, mu: Tensor, kappa: Tensor, family: int, tolerance: Any = None
    ) -> Any:
        ctx.save_for_backward(value, mu, kappa)
        ctx.family = family
        if tolerance is None:
            return _kernel(value, mu, kappa, family)
        return _on_sphere_kernel(value, mu, kappa, family, tolerance)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any = None) -> Any:
        value, mu, kappa = ctx.saved_tensors
        in_value, in_mu, in_kappa, *constants = ctx.needs_input_grad
        needs_grad = in_value + 2 * in_mu + 4 * in_kappa + summed(grad)
        grads = _log_prob_backward(grad, value, mu, kappa, ctx.family, needs_grad)
        return (
            sum_to(grads[0], value) if in_value else None,
            sum_to(grads[1], mu) if in_mu else None,
            sum_to(grads[2], kappa) if in_kappa else None,
            *(None for _ in constants),
        )


@register_autograd("log_prob")
def _(value: Tensor, mu: Tensor, kappa: Tensor, family: int) -> Tensor:
    result: Tensor = _LogProb.apply(*savable(value, mu, kappa), family)
    return result


@register_autograd("log_prob_on_sphere")
def _(
    value: Tensor, mu: Tensor, kappa: Tensor, family: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _LogProb.apply(*savable(value, mu, kappa), family, tolerance)
    return result


@register_autograd("log_prob_backward")
def _log_prob_backward(
    grad: Tensor, value: Tensor, mu: Tensor, kappa: Tensor, family: int, needs_grad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients, which are differentiable where grad mode is on."""
    if not is_differentiable(grad, value, mu, kappa):
        return _backward_kernel(grad, value, mu, kappa, family, needs_grad)  # type: ignore[no-any-return]
    _backward_kernel(grad, value, mu, kappa, family, 0)  # checks the arguments
    batch = batch_shape(grad.shape, value.shape[:-1], mu.shape[:-1], kappa.shape)
    if not needs_grad & NeedsGrad.SUMMED:
        value, mu = (x.expand(*batch, x.shape[-1]) for x in (value, mu))
    tensors = value, mu, kappa.expand(batch)
    needed = [bool(needs_grad & bit) for bit in (1, 2, 4)]
    grads = differentiable_vjp(
        lambda value, mu, kappa: _reference(value, mu, kappa, FAMILIES[family]),
        tensors,
        needed,
        grad.expand(batch),
    )
    first, second, third = (
        x.new_empty(0) if g is None else g for x, g in zip(tensors, grads, strict=True)
    )
    return first, second, third


@register_fake("log_prob")
def _(value: Tensor, mu: Tensor, kappa: Tensor, family: int) -> Tensor:
    return kappa.new_empty(fake_batch((value, mu), kappa))


@register_fake("log_prob_on_sphere")
def _(
    value: Tensor, mu: Tensor, kappa: Tensor, family: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    result = kappa.new_empty(fake_batch((value, mu), kappa))
    return result, kappa.new_empty((), dtype=torch.bool)


@register_fake("log_prob_backward")
def _(
    grad: Tensor, value: Tensor, mu: Tensor, kappa: Tensor, family: int, needs_grad: int
) -> tuple[Tensor, Tensor, Tensor]:
    batch = fake_batch((value, mu), grad, kappa)
    return (
        fake_vectors(value, batch, needs_grad, NeedsGrad.VALUE),
        fake_vectors(mu, batch, needs_grad, NeedsGrad.MU),
        kappa.new_empty(batch if needs_grad & NeedsGrad.KAPPA else (0,)),
    )

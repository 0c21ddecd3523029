"""Samples, one for each row -> csrc/rsample.h, csrc/cpu/rsample.cpp, csrc/cuda/rsample.cu."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import reference
from .._decompositions import register_decomposition
from .._kernels import (
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
    fake_batch,
    fake_vectors,
    for_kernel,
    is_differentiable,
    own_rows,
    promote,
    summed,
)

__all__ = ["rsample"]

_op, _kernel = raw_op("rsample")
_rounded_op, _rounded_kernel = raw_op("rsample_rounded")
_backward_kernel = raw_op("rsample_backward")[1]


def rsample(
    loc: Tensor,
    concentration: Tensor,
    rng_state: Tensor,
    family: Family,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """One sample per row of ``loc`` (..., d) broadcast against ``concentration`` (...), in
    ``dtype``. Without one, it is their common dtype and at least float32, in which the sample is
    computed.

    The gradients are those at the sample as it is before it is rounded to ``dtype``. A pure
    function of the arguments: ``rng_state`` holds seed and offset (see `new_rng_state`).
    """
    result: Tensor
    if not has_kernel(loc):
        if is_dtensor(loc):
            rows = own_rows((loc,), (concentration,))
            loc, concentration = rows.local
            rng_state = rows.rng_state(rng_state)
            return rows.whole(rsample(loc, concentration, rng_state, family, dtype))
        loc, concentration = savable(*promote(loc, concentration))
        kappa = family.inside(concentration)
        return _in(dtype, reference.rsample(loc, kappa, rng_state, family.reference))
    loc, concentration = for_kernel(loc, concentration)
    rounds = dtype is loc.dtype and dtype is not concentration.dtype  # then the kernel rounds
    needs_grad = torch.is_grad_enabled() and (loc.requires_grad or concentration.requires_grad)
    if is_compiling() or is_tracing():
        op = _rounded_op if rounds else _op
        result = op(loc, concentration, rng_state, family.index)
    elif needs_grad:
        result = _RSample.apply(*savable(loc, concentration), rng_state, family.index, rounds)
    else:
        kernel = _rounded_kernel if rounds else _kernel
        result = kernel(loc, concentration, rng_state, family.index)
    return _in(dtype, result[0] if rounds else result)


def _in(dtype: torch.dtype | None, sample: Tensor) -> Tensor:
    return sample if dtype is None or sample.dtype is dtype else sample.to(dtype)


@register_decomposition("rsample")
def _decomposed(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
    law, (mu, kappa) = FAMILIES[family], promote(mu, kappa)
    return reference.sample(mu, law.inside(kappa), rng_state, law.reference, at_once=16)


@register_decomposition("rsample_rounded")
def _(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> tuple[Tensor, Tensor]:
    sample = _decomposed(mu, kappa, rng_state, family)
    return sample.to(mu.dtype), sample


class _RSample(torch.autograd.Function):
    """The sample; if it ``rounds``, the sample in the dtype of mu, and as it is before.

    The gradient is that at the sample before rounding, and the upstream gradient is read in its
    own dtype.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        kappa: Tensor,
        rng_state: Tensor,
        family: int,
        rounds: bool,
    ) -> Any:
        if rounds:
            outputs = _rounded_kernel(mu, kappa, rng_state, family)
            sample = outputs[1]
            ctx.mark_non_differentiable(sample)
            ctx.set_materialize_grads(False)  # none for the sample
        else:
            outputs = sample = _kernel(mu, kappa, rng_state, family)
        ctx.save_for_backward(sample, mu, kappa)
        ctx.family = family
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
        if grad is None:  # what the sample went into has no gradient
            return None, None, None, None, None
        sample, mu, kappa = ctx.saved_tensors
        in_mu, in_kappa, *_ = ctx.needs_input_grad
        needs_grad = 2 * in_mu + 4 * in_kappa + summed(grad)
        grads = _rsample_backward(grad, sample, mu, kappa, ctx.family, needs_grad)
        return (
            sum_to(grads[0], mu) if in_mu else None,
            sum_to(grads[1], kappa) if in_kappa else None,
            None,
            None,
            None,
        )


@register_autograd("rsample")
def _(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
    result: Tensor = _RSample.apply(*savable(mu, kappa), rng_state, family, False)
    return result


@register_autograd("rsample_rounded")
def _(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> tuple[Tensor, Tensor]:
    """The rounded sample is differentiable. The one before it is rounded is a constant."""
    result: tuple[Tensor, Tensor] = _RSample.apply(*savable(mu, kappa), rng_state, family, True)
    return result


@register_autograd("rsample_backward")
def _rsample_backward(
    grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: int, needs_grad: int
) -> tuple[Tensor, Tensor]:
    """The gradients. Where grad mode is on, differentiating them raises."""
    if not is_differentiable(grad, sample, mu, kappa):
        return _backward_kernel(grad, sample, mu, kappa, family, needs_grad)  # type: ignore[no-any-return]
    _backward_kernel(grad, sample, mu, kappa, family, 0)  # checks the arguments
    law = FAMILIES[family]
    grad_mu, grad_kappa = reference.rsample_backward(
        grad.to(sample.dtype), sample, mu.to(sample.dtype), law.inside(kappa), law.reference
    )
    if needs_grad & NeedsGrad.SUMMED:
        grad_mu = sum_to(grad_mu, mu)
    return (
        grad_mu.to(mu.dtype) if needs_grad & NeedsGrad.MU else mu.new_empty(0),
        grad_kappa if needs_grad & NeedsGrad.KAPPA else kappa.new_empty(0),
    )


@register_fake("rsample")
def _(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
    return kappa.new_empty((*fake_batch((mu,), kappa), mu.shape[-1]))


@register_fake("rsample_rounded")
def _(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> tuple[Tensor, Tensor]:
    shape = (*fake_batch((mu,), kappa), mu.shape[-1])
    return mu.new_empty(shape), kappa.new_empty(shape)


@register_fake("rsample_backward")
def _(
    grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: int, needs_grad: int
) -> tuple[Tensor, Tensor]:
    batch = fake_batch((grad, sample, mu), kappa)
    return (
        fake_vectors(mu, batch, needs_grad, NeedsGrad.MU),
        kappa.new_empty(batch if needs_grad & NeedsGrad.KAPPA else (0,)),
    )

"""KL divergences between two families -> csrc/kl.h, csrc/cpu/kl.cpp, csrc/cuda/kl.cu."""

from __future__ import annotations

from enum import IntEnum
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
    batch_shape,
    differentiable_vjp,
    is_differentiable,
    own_rows,
    promote,
)

__all__ = ["KlFunction", "kl"]

_op, _kernel = raw_op("kl")


class KlFunction(IntEnum):
    """What the raw op calls `function`; KlFunction in csrc/kl.h."""

    KL = 0
    KL_DKAPPA_P = 1
    KL_DKAPPA_Q = 2
    KL_DSIN2 = 3  # along sin2 + cos2 = 1


def kl(
    kappa_p: Tensor,
    kappa_q: Tensor,
    loc_p: Tensor,
    loc_q: Tensor,
    family_p: Family,
    family_q: Family,
) -> Tensor:
    """KL(p || q) of two distributions with the parameters (...) and (..., d), shape (...)."""
    result: Tensor
    if family_q.name not in family_p.kl:
        raise NotImplementedError(
            f"the KL divergence from {family_p.name} to {family_q.name} is not known: estimate it "
            "by (p.log_prob(x) - q.log_prob(x)).mean(0) from samples x = p.rsample((1000,))"
        )
    if is_dtensor(loc_p):
        rows = own_rows((loc_p, loc_q), (kappa_p, kappa_q))
        loc_p, loc_q, kappa_p, kappa_q = rows.local
        return rows.whole(kl(kappa_p, kappa_q, loc_p, loc_q, family_p, family_q))
    kappa_p, kappa_q, loc_p, loc_q = promote(kappa_p, kappa_q, loc_p, loc_q)
    d = loc_p.shape[-1]
    sin2, cos2 = reference.half_angle(loc_p, loc_q)
    if not has_kernel(sin2):
        kappa_p, kappa_q = savable(kappa_p, kappa_q)
        return _reference(kappa_p, kappa_q, d, sin2, cos2, family_p, family_q)
    tensors, others = (kappa_p, kappa_q, sin2, cos2), (d, family_p.index, family_q.index)
    needs_grad = torch.is_grad_enabled() and (
        kappa_p.requires_grad or kappa_q.requires_grad or sin2.requires_grad
    )
    if is_compiling() or is_tracing():
        result = _op(*tensors, *others, 0)
    elif needs_grad:
        result = _Kl.apply(*savable(*tensors), *others)
    else:
        result = _kernel(*tensors, *others, 0)
    return result


def _reference(
    kappa_p: Tensor,
    kappa_q: Tensor,
    d: int,
    sin2: Tensor,
    cos2: Tensor,
    family_p: Family,
    family_q: Family,
) -> Tensor:
    divergence = family_p.kl[family_q.name]
    return divergence(family_p.inside(kappa_p), family_q.inside(kappa_q), d, sin2, cos2)


@register_decomposition("kl")
def _(
    kappa_p: Tensor,
    kappa_q: Tensor,
    sin2: Tensor,
    cos2: Tensor,
    d: int,
    family_p: int,
    family_q: int,
    function: int,
) -> Tensor:
    if function != KlFunction.KL:
        raise NotImplementedError("a derivative of the KL divergence has no decomposition")
    return _reference(kappa_p, kappa_q, d, sin2, cos2, FAMILIES[family_p], FAMILIES[family_q])


class _Kl(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kappa_p: Tensor,
        kappa_q: Tensor,
        sin2: Tensor,
        cos2: Tensor,
        d: int,
        family_p: int,
        family_q: int,
    ) -> Tensor:
        ctx.save_for_backward(kappa_p, kappa_q, sin2, cos2)
        ctx.arguments = d, family_p, family_q
        result: Tensor = _kernel(kappa_p, kappa_q, sin2, cos2, d, family_p, family_q, 0)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        p, q, sin2, cos2 = ctx.saved_tensors
        d, family_p, family_q = ctx.arguments
        # Along sin2 + cos2 = 1 the derivative in sin2 is the whole one, so that cos2 has none.
        derivatives = zip((1, 2, 3), (p, q, sin2), ctx.needs_input_grad, strict=False)
        grads = (
            sum_to(grad * _kl(p, q, sin2, cos2, d, family_p, family_q, function), x)
            if needed
            else None
            for function, x, needed in derivatives
        )
        return *grads, None, None, None, None, None


@register_autograd("kl")
def _kl(
    kappa_p: Tensor,
    kappa_q: Tensor,
    sin2: Tensor,
    cos2: Tensor,
    d: int,
    family_p: int,
    family_q: int,
    function: int,
) -> Tensor:
    """The divergence or a derivative of it, which is differentiable where grad mode is on."""
    result: Tensor
    tensors = kappa_p, kappa_q, sin2, cos2
    if not is_differentiable(*tensors):
        return _kernel(*tensors, d, family_p, family_q, function)  # type: ignore[no-any-return]
    if function == 0:
        result = _Kl.apply(*savable(*tensors), d, family_p, family_q)
        return result
    _kernel(*tensors, d, family_p, family_q, function)  # checks the arguments

    def along_the_sphere(kappa_p: Tensor, kappa_q: Tensor, sin2: Tensor) -> Tensor:
        rest = cos2.detach() + (sin2.detach() - sin2)
        return _reference(kappa_p, kappa_q, d, sin2, rest, FAMILIES[family_p], FAMILIES[family_q])

    expanded = torch.broadcast_tensors(*tensors)[:3]
    needed = [i == function for i in (1, 2, 3)]
    grads = differentiable_vjp(along_the_sphere, expanded, needed, torch.ones_like(expanded[0]))
    derivative = grads[function - 1]
    assert derivative is not None
    return derivative


@register_fake("kl")
def _(
    kappa_p: Tensor,
    kappa_q: Tensor,
    sin2: Tensor,
    cos2: Tensor,
    d: int,
    family_p: int,
    family_q: int,
    function: int,
) -> Tensor:
    return kappa_p.new_empty(batch_shape(kappa_p.shape, kappa_q.shape, sin2.shape, cos2.shape))

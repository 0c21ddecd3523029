"""The VI-SimSiam loss of rows -> csrc/vi_simsiam.h, csrc/cpu/vi_simsiam.cpp,
csrc/cuda/vi_simsiam.cu."""

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
    transform_active,
)
from .._tensors import is_dtensor, savable, sum_to
from ..families import FAMILIES, Family
from ._dispatch import (
    NeedsGrad,
    batch_shape,
    common_dtype,
    differentiable_vjp,
    fake_batch,
    has_one_dtype,
    is_differentiable,
    own_rows,
)

__all__ = ["vi_simsiam_loss"]

_op, _kernel = raw_op("vi_simsiam_loss")
_scale_kernel = raw_op("scale_gradients_")[1]


def vi_simsiam_loss(
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: Family,
    beta: float = 0.0,
    scale: float | None = None,
    weight: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """-log p(x/|x|; mu/|mu|, kappa) - log_area for mu = ``pred`` and x = ``target`` (..., d), and
    ``kappa`` (...): shape (...). Half-precision vectors are read as they are.

    With ``scale``, the result is a scalar: ``start``, a scalar of the loss's dtype, plus the sum of
    scale * weight * loss. ``weight`` is a constant that broadcasts against (...). The gradients are
    then known but for a factor, which is 1 unless the sum is scaled again, and the pass over the
    data that computes the loss computes them as well.
    """
    if not has_one_dtype((pred, target, kappa)):
        dtype = common_dtype(pred, target, kappa)
        vectors = torch.promote_types(pred.dtype, target.dtype)
        if dtype is torch.float64:
            vectors = dtype
        pred, target, kappa = pred.to(vectors), target.to(vectors), kappa.to(dtype)
    if not has_kernel(pred):
        if is_dtensor(pred):
            rows = own_rows((pred, target), (kappa,))
            pred, target, kappa = rows.local
            loss = rows.whole(vi_simsiam_loss(pred, target, kappa, family, beta))
            return _summed(loss, scale, weight, start)
        pred, target, kappa = savable(pred, target, kappa)
        return _reference(pred, target, kappa, family, beta, scale, weight, start)
    needs_grad = torch.is_grad_enabled() and (
        pred.requires_grad
        or target.requires_grad
        or kappa.requires_grad
        or (start is not None and start.requires_grad)
    )
    result: Tensor
    if is_compiling() or is_tracing():
        loss = _op(None, pred, target, kappa, family.index, beta, 0)[0]
        return _summed(loss, scale, weight, start)
    if needs_grad:
        tensors = savable(pred, target, kappa)
        result = _VISimSiamLoss.apply(*tensors, family.index, beta, scale, weight, start)
    else:
        result = _kernel(weight, pred, target, kappa, family.index, beta, 0, scale, start)[0]
    return result


def _summed(
    loss: Tensor, scale: float | None, weight: Tensor | None, start: Tensor | None
) -> Tensor:
    if scale is None:
        return loss
    total = scale * (loss if weight is None else weight * loss).sum()
    return total if start is None else start + total


def _holds_many(factor: Tensor) -> bool:
    """Whether ``factor`` is many, as with is_grads_batched=True, or in a vmap over a backward pass.

    The name is private to torch; tested.
    """
    return transform_active() or torch._C._functorch.is_legacy_batchedtensor(factor)


def _reference(
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: Family,
    beta: float,
    scale: float | None = None,
    weight: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    loss = reference.vi_simsiam_loss(pred, target, family.inside(kappa), family.reference, beta)
    return _summed(loss, scale, weight, start)


@register_decomposition("vi_simsiam_loss")
def _(
    grad: Tensor | None,
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float,
    needs_grad: int,
    scale: float | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if needs_grad:
        raise NotImplementedError("the gradients of vi_simsiam_loss have no decomposition")
    loss = _reference(pred, target, kappa, FAMILIES[family], beta, scale, grad, start)
    return loss, pred.new_empty(0), target.new_empty(0), kappa.new_empty(0)


class _VISimSiamLoss(torch.autograd.Function):
    """With a scale, the forward pass computes the gradients of the sum.

    The backward pass multiplies them in place by the factor that arrives, and gives them away. If
    the graph is used again, they are computed anew. They are not computed ahead in float16, in
    which they could underflow without the factor of a GradScaler.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pred: Tensor,
        target: Tensor,
        kappa: Tensor,
        family: int,
        beta: float,
        scale: float | None,
        weight: Tensor | None,
        start: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(pred, target, kappa, weight)
        in_pred, in_target, in_kappa, *_ = ctx.needs_input_grad
        needs_grad = 2 * in_pred + in_target + 4 * in_kappa
        ctx.arguments = family, beta, scale, needs_grad
        ahead = 0 if scale is None or pred.dtype is torch.float16 else needs_grad
        loss: Tensor
        loss, *grads = _kernel(weight, pred, target, kappa, family, beta, ahead, scale, start)
        ctx.grads = grads if ahead else None
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        pred, target, kappa, weight = ctx.saved_tensors
        tensors = pred, target, kappa
        family, beta, scale, needs_grad = ctx.arguments
        of_start = grad if ctx.needs_input_grad[7] else None
        if not needs_grad:
            return None, None, None, None, None, None, None, of_start
        if torch.is_grad_enabled():
            grads = differentiable_vjp(
                lambda pred, target, kappa: _reference(
                    pred, target, kappa, FAMILIES[family], beta, scale, weight
                ),
                tensors,
                ctx.needs_input_grad[:3],
                grad,
            )
            return *grads, None, None, None, None, of_start
        ahead, ctx.grads = ctx.grads, None
        if ahead is None or _holds_many(grad):
            upstream = grad if weight is None else grad * weight
            ahead = _kernel(upstream, *tensors, family, beta, needs_grad, scale)[1:]
        else:
            _scale_kernel(*ahead, grad)
        grads = [
            sum_to(g, x) if needed else None
            for g, x, needed in zip(ahead, tensors, ctx.needs_input_grad, strict=False)
        ]
        return *grads, None, None, None, None, of_start


@register_autograd("vi_simsiam_loss")
def _(
    grad: Tensor | None,
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float,
    needs_grad: int,
    scale: float | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss is differentiable, and the gradients beside it are constants."""
    arguments = pred, target, kappa, family, beta
    operands = [x for x in (pred, target, kappa, start) if x is not None]
    if not is_differentiable(*operands):
        return _kernel(grad, *arguments, needs_grad, scale, start)  # type: ignore[no-any-return]
    tensors, weight = savable(pred, target, kappa), None if scale is None else grad
    loss = _VISimSiamLoss.apply(*tensors, family, beta, scale, weight, start)
    if scale is None and grad is not None:
        loss = loss.expand(batch_shape(loss.shape, grad.shape))
    if not needs_grad:  # as in exported programs, which compute the loss once
        return loss, pred.new_empty(0), target.new_empty(0), kappa.new_empty(0)
    _, *grads = _kernel(grad, *arguments, needs_grad, scale)
    return loss, *grads


@register_fake("vi_simsiam_loss")
def _(
    grad: Tensor | None,
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float,
    needs_grad: int,
    scale: float | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch = fake_batch((pred, target), kappa, *(() if grad is None else (grad,)))
    vectors = (*batch, pred.shape[-1])
    return (
        kappa.new_empty(batch if scale is None else ()),
        pred.new_empty(vectors if needs_grad & NeedsGrad.MU else (0,)),
        target.new_empty(vectors if needs_grad & NeedsGrad.VALUE else (0,)),
        kappa.new_empty(batch if needs_grad & NeedsGrad.KAPPA else (0,)),
    )


@register_fake("scale_gradients_")
def _(pred: Tensor, target: Tensor, kappa: Tensor, factor: Tensor) -> None:
    """Changes no shape."""

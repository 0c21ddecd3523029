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
    values_are_readable,
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


def vi_simsiam_loss(
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: Family,
    beta: float = 0.0,
    weight: Tensor | None = None,
) -> Tensor:
    """-log p(x/|x|; mu/|mu|, kappa) - log_area for mu = ``pred`` and x = ``target`` (..., d), and
    ``kappa`` (...): shape (...). Half-precision vectors are read as they are.

    With ``weight``, a constant that broadcasts against (...), the result is the scalar
    sum of weight * loss. The gradients are then known but for a factor, which is 1 unless the loss
    is scaled, and the pass over the data that computes the loss computes them as well.
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
            return _weighted_sum(loss, weight)
        pred, target, kappa = savable(pred, target, kappa)
        return _reference(pred, target, kappa, family, beta, weight)
    needs_grad = torch.is_grad_enabled() and (
        pred.requires_grad or target.requires_grad or kappa.requires_grad
    )
    if is_compiling() or is_tracing():
        loss = _op(kappa, pred, target, kappa, family.index, beta, 0)[0]
    elif needs_grad:
        tensors = savable(pred, target, kappa)
        result: Tensor = _VISimSiamLoss.apply(*tensors, family.index, beta, weight)
        return result
    else:
        loss = _kernel(kappa, pred, target, kappa, family.index, beta, 0)[0]
    return _weighted_sum(loss, weight)


def _weighted_sum(loss: Tensor, weight: Tensor | None) -> Tensor:
    return loss if weight is None else (weight * loss).sum()


def _reference(
    pred: Tensor, target: Tensor, kappa: Tensor, family: Family, beta: float, weight: Tensor | None
) -> Tensor:
    loss = reference.vi_simsiam_loss(pred, target, family.inside(kappa), family.reference, beta)
    return _weighted_sum(loss, weight)


@register_decomposition("vi_simsiam_loss")
def _(
    grad: Tensor,
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float,
    needs_grad: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if needs_grad:
        raise NotImplementedError("the gradients of vi_simsiam_loss have no decomposition")
    loss = _reference(pred, target, kappa, FAMILIES[family], beta, None)
    return loss, pred.new_empty(0), target.new_empty(0), kappa.new_empty(0)


class _VISimSiamLoss(torch.autograd.Function):
    """With a weight, the forward pass computes the gradients of the weighted sum.

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
        weight: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(pred, target, kappa, weight)
        in_pred, in_target, in_kappa, *_ = ctx.needs_input_grad
        needs_grad = 2 * in_pred + in_target + 4 * in_kappa
        ctx.arguments = family, beta, needs_grad
        ctx.grads = None
        if weight is None or pred.dtype is torch.float16:
            loss = _kernel(kappa, pred, target, kappa, family, beta, 0)[0]
        else:
            loss, *ctx.grads = _kernel(weight, pred, target, kappa, family, beta, needs_grad)
        return _weighted_sum(loss, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        pred, target, kappa, weight = ctx.saved_tensors
        tensors = pred, target, kappa
        family, beta, needs_grad = ctx.arguments
        if torch.is_grad_enabled():
            grads = differentiable_vjp(
                lambda pred, target, kappa: _reference(
                    pred, target, kappa, FAMILIES[family], beta, weight
                ),
                tensors,
                ctx.needs_input_grad[:3],
                grad,
            )
            return *grads, None, None, None
        ahead, ctx.grads = ctx.grads, None
        # Many factors in one tensor: is_grads_batched=True. The name is private to torch; tested.
        if ahead is None or torch._C._functorch.is_legacy_batchedtensor(grad):
            upstream = grad if weight is None else grad * weight
            ahead = _kernel(upstream, *tensors, family, beta, needs_grad)[1:]
        # Asking a GPU would make the CPU wait.
        elif not (grad.is_cpu and values_are_readable(grad) and grad.item() == 1):
            torch._foreach_mul_(ahead, grad)  # one kernel for gradients of one type
        grads = [
            sum_to(g, x) if needed else None
            for g, x, needed in zip(ahead, tensors, ctx.needs_input_grad, strict=False)
        ]
        return *grads, None, None, None


@register_autograd("vi_simsiam_loss")
def _(
    grad: Tensor,
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float,
    needs_grad: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss is differentiable, and the gradients beside it are constants."""
    if not is_differentiable(pred, target, kappa):
        return _kernel(grad, pred, target, kappa, family, beta, needs_grad)  # type: ignore[no-any-return]
    batch = batch_shape(grad.shape, pred.shape[:-1], target.shape[:-1], kappa.shape)
    loss = _VISimSiamLoss.apply(*savable(pred, target, kappa), family, beta, None).expand(batch)
    if not needs_grad:  # as in exported programs, which compute the loss once
        return loss, pred.new_empty(0), target.new_empty(0), kappa.new_empty(0)
    _, *grads = _kernel(grad, pred, target, kappa, family, beta, needs_grad)
    return loss, *grads


@register_fake("vi_simsiam_loss")
def _(
    grad: Tensor,
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float,
    needs_grad: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch = fake_batch((pred, target), grad, kappa)
    vectors = (*batch, pred.shape[-1])
    return (
        kappa.new_empty(batch),
        pred.new_empty(vectors if needs_grad & NeedsGrad.MU else (0,)),
        pred.new_empty(vectors if needs_grad & NeedsGrad.VALUE else (0,)),
        kappa.new_empty(batch if needs_grad & NeedsGrad.KAPPA else (0,)),
    )

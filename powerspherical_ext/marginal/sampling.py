"""Samples of the cosine t = mu . x of any family. The sampler is an op, so that a compiler does not
see its trials."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import ops
from .._kernels import register_autograd, register_fake
from ..families import FAMILIES, Family
from ..ops._dispatch import is_traced, python_op
from ..reference.gamma import sample_gamma
from ..reference.normal import ProposalNoise, normals
from ..reference.philox import row_words

__all__ = ["sample"]


def sample(kappa: Tensor, d: int, rng_state: Tensor, family: Family) -> Tensor:
    """One t per element of kappa by the family's sampler; dt/dkappa = (1 - t^2) implicit_gradient.

    A Gamma(b) variate stands in for |g'|^2/2, half the squared length of d - 1 normals, so the cost
    does not depend on d.
    """
    function = torch.ops.powerspherical_ext.cosine_sample if is_traced() else _Sample.apply
    result: Tensor = function(kappa, rng_state, d, family.index)[0]
    return result


@python_op("cosine_sample(Tensor kappa, Tensor rng_state, int d, int family) -> (Tensor, Tensor)")
def _sample(kappa: Tensor, rng_state: Tensor, d: int, family: int) -> tuple[Tensor, Tensor]:
    """t and sin2 = (1 - t)/2, which is accurate where t rounds to 1."""
    rows = 2 * torch.arange(kappa.numel(), device=kappa.device).reshape(kappa.shape)
    words = row_words(rng_state, rows, 0, torch.zeros_like(rows))
    normal = normals(words, kappa.dtype)
    b = torch.full_like(kappa, (d - 1) / 2)
    s = sample_gamma(b, normal[..., 0], ProposalNoise(rng_state, rows + 1, kappa.dtype))
    noise = ProposalNoise(rng_state, rows, kappa.dtype)
    t, r = FAMILIES[family].reference.sample(kappa, d, normal[..., 1], s, noise)
    square = 2 * s * r * r  # 1 - t^2, from which the smaller of sin2 and cos2 does not cancel
    small = square / (2 * (1 + t.abs()))
    return t, torch.where(t > 0, small, 1 - small)


class _Sample(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(kappa: Tensor, rng_state: Tensor, d: int, family: int) -> tuple[Tensor, Tensor]:
        return _sample(kappa, rng_state, d, family)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        kappa, _, ctx.d, ctx.family = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], kappa)
        ctx.save_for_forward(output[1], kappa)

    @staticmethod
    def _slope(ctx: Any, sin2: Tensor, kappa: Tensor) -> Tensor:
        cos2 = 1 - sin2
        return 4 * sin2 * cos2 * ops.implicit_gradient(kappa, sin2, cos2, ctx.d, ctx.family)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Any:
        return grad * _Sample._slope(ctx, *ctx.saved_tensors), None, None, None

    @staticmethod
    def jvp(ctx: Any, dkappa: Tensor, *_: Any) -> Any:
        slope = _Sample._slope(ctx, *ctx.saved_tensors)
        return dkappa * slope, torch.zeros_like(slope)


@register_autograd("cosine_sample")
def _(kappa: Tensor, rng_state: Tensor, d: int, family: int) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _Sample.apply(kappa, rng_state, d, family)
    return result


@register_fake("cosine_sample")
def _(kappa: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return kappa.new_empty(kappa.shape), kappa.new_empty(kappa.shape)

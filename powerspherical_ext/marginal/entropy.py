"""The entropy of the cosine t = mu . x of any family, by quadrature about the mode.

It and its derivative are ops, so that a compiler does not see their loops.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._kernels import register_autograd, register_fake
from .._tensors import ROWS, by_rows, wide
from ..families import FAMILIES, Family
from ..ops._dispatch import is_traced, python_op
from ..reference import log_area
from .tails import DROP, integral, mode_of, move

__all__ = ["entropy"]


def entropy(kappa: Tensor, d: int, family: Family) -> Tensor:
    """-E[log f(t)], differentiable in kappa."""
    function = torch.ops.powerspherical_ext.cosine_entropy if is_traced() else _Entropy.apply
    result: Tensor = function(wide(kappa), d, family.index, kappa.dtype)
    return result.to(kappa.dtype)


def _quadrature(kappa: Tensor, d: int, family: int, dtype: torch.dtype, derivative: bool) -> Tensor:
    """-E[log f(t)], or its derivative in kappa, to the accuracy of ``dtype``.

    The entropy is the integral of -g(u) log f over u, where log f = log(2 g(u)) - log(1 - t^2).
    Its derivative is that of -g(u) (1 + log f) d/dkappa log f, on the same nodes.
    """
    law = FAMILIES[family]
    mode = mode_of(kappa.detach(), d, law)
    kappa = kappa.unsqueeze(-1)
    peak = law.reference.log_prob_at_mode(kappa, d) + log_area(d - 1)
    peak_dkappa = law.reference.log_prob_at_mode_dkappa(kappa, d)

    def integrand(h: Tensor) -> Tensor:
        sin2, cos2 = move(mode.sin2.unsqueeze(-1), mode.cos2.unsqueeze(-1), h)
        log_square = (4 * sin2 * cos2).log()  # log(1 - t^2)
        log_f = peak + law.reference.log_prob_ratio(kappa, d, sin2, cos2) + (d - 3) / 2 * log_square
        g = 0.5 * (log_f + log_square).exp()
        if not derivative:
            return -g * log_f
        log_f_dkappa = peak_dkappa + law.reference.log_prob_ratio_dkappa(kappa, d, sin2, cos2)
        return -g * (1 + log_f) * log_f_dkappa

    total = torch.zeros_like(mode.kappa)
    for sign in (-torch.ones_like(mode.kappa), torch.ones_like(mode.kappa)):
        end = sign * mode.width(sign, DROP[dtype])
        total = total + integral(integrand, end, mode.b, dtype)
    return total


@python_op("cosine_entropy(Tensor kappa, int d, int family, ScalarType dtype) -> Tensor")
def _entropy(kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
    return by_rows(lambda k: _quadrature(k, d, family, dtype, derivative=False), ROWS, kappa)


@python_op("cosine_entropy_dkappa(Tensor kappa, int d, int family, ScalarType dtype) -> Tensor")
def _entropy_dkappa(kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
    return by_rows(lambda k: _quadrature(k, d, family, dtype, derivative=True), ROWS, kappa)


register_autograd("cosine_entropy_dkappa")(_entropy_dkappa)


class _Entropy(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
        return _entropy(kappa, d, family, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        kappa, *ctx.arguments = inputs
        ctx.save_for_backward(kappa)
        ctx.save_for_forward(kappa)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * _entropy_dkappa(*ctx.saved_tensors, *ctx.arguments), None, None, None

    @staticmethod
    def jvp(ctx: Any, dkappa: Tensor, *_: Any) -> Tensor:
        return dkappa * _entropy_dkappa(*ctx.saved_tensors, *ctx.arguments)


@register_autograd("cosine_entropy")
def _(kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
    result: Tensor = _Entropy.apply(kappa, d, family, dtype)
    return result


@register_fake("cosine_entropy")
@register_fake("cosine_entropy_dkappa")
def _(kappa: Tensor, *_: Any) -> Tensor:
    return kappa.new_empty(kappa.shape)

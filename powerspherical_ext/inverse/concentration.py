"""The concentration of which the divergence from the uniform distribution, or the mean cosine, is
given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import ops
from .._kernels import register_autograd, register_fake
from .._tensors import wide
from ..families import FAMILIES, Family
from ..ops import ScalarFunction
from ..ops._dispatch import is_traced, python_op
from .solver import Domain

__all__ = ["concentration_of", "largest", "mean_cosine_slope_at_0"]

_STEPS = 8
_DERIVATIVE = {
    ScalarFunction.KL_UNIFORM: ScalarFunction.KL_UNIFORM_DKAPPA,
    ScalarFunction.MEAN_RESULTANT_LENGTH: ScalarFunction.MEAN_RESULTANT_LENGTH_DKAPPA,
}


def largest(family: Family, dtype: torch.dtype) -> float:
    """The largest concentration of the domain that is a number of the dtype."""
    end = torch.tensor(family.upper_bound, dtype=dtype)
    return torch.nextafter(end, torch.zeros_like(end)).item()


def mean_cosine_slope_at_0(d: int, family: Family) -> float:
    """dE[t]/dkappa at kappa = 0."""
    zero = torch.zeros((), dtype=torch.float64)
    slope = ops.scalar_function(ScalarFunction.MEAN_RESULTANT_LENGTH_DKAPPA, zero, d, family)
    return slope.item()


def concentration_of(
    value: Tensor,
    function: ScalarFunction,
    d: int,
    family: Family,
    dtype: torch.dtype,
    rounding: float = 0.0,
) -> Tensor:
    """kappa (...) with function(kappa) = value (...).

    ``function`` is `kl_uniform` or `mean_resultant_length`, which both increase from 0. The result
    is NaN where the value is negative, or larger than at the largest concentration of the dtype,
    or a mean cosine of 1. A value that is beyond an end by ``rounding``, or beyond the last one by
    its own rounding, counts as that end. The derivative is 1/function'(kappa).
    """
    solver = torch.ops.powerspherical_ext.concentration_of if is_traced() else _Inverse.apply
    last, eps = largest(family, dtype), torch.finfo(dtype).eps
    result: Tensor = solver(wide(value), int(function), d, family.index, last, rounding, eps)
    return result.to(dtype)


@python_op(
    "concentration_of(Tensor value, int function, int d, int family, float last, float rounding,"
    " float eps) -> Tensor"
)
def _concentration_of(
    value: Tensor, function: int, d: int, family: int, last: float, rounding: float, eps: float
) -> Tensor:
    law, of_kl = FAMILIES[family], function == ScalarFunction.KL_UNIFORM

    def at(name: ScalarFunction, kappa: Tensor) -> Tensor:
        return ops.scalar_function(name, kappa, d, law)

    def straight(y: Tensor) -> tuple[Tensor, Tensor]:
        """An increasing function of y that is about the variable of the solver, and its derivative.

        A small kappa is proportional to the mean cosine and to the root of the divergence. The
        logarithm of a large one is proportional to -log(1 - E[t]) and to the divergence.
        """
        if not of_kl:
            return -(-y).log1p(), 1 / (1 - y)
        x = 2 * y / (d - 1)
        root = (x * (1 + x)).sqrt()
        return root, (1 + 2 * x) / ((d - 1) * root)

    top = at(ScalarFunction(function), torch.full_like(value, last))
    middle = at(ScalarFunction(function), torch.full_like(value, last / 2))
    below_1 = of_kl or value < 1
    reachable = (value > 0) & (value <= top) & below_1
    target = straight(torch.where(reachable, value, middle))[0]

    def excess(kappa: Tensor) -> tuple[Tensor, Tensor]:
        y, slope = straight(at(ScalarFunction(function), kappa))
        return y - target, slope * at(_DERIVATIVE[ScalarFunction(function)], kappa)

    scale = 1 / mean_cosine_slope_at_0(d, law)
    kappa = Domain(scale, law.upper_bound, last).solve(excess, target, _STEPS)
    kappa = torch.where(reachable, kappa, torch.nan)
    at_end = (value > top) & (value <= top * (1 + 4 * eps) + rounding) & below_1
    kappa = torch.where(at_end, last, kappa)
    return torch.where((value <= 0) & (value >= -rounding), 0.0, kappa)


class _Inverse(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Tensor,
        function: int,
        d: int,
        family: int,
        last: float,
        rounding: float,
        eps: float,
    ) -> Tensor:
        return _concentration_of(value, function, d, family, last, rounding, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.function, ctx.d, ctx.family, *_ = inputs
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def _slope(ctx: Any) -> Tensor:
        (kappa,) = ctx.saved_tensors
        derivative = _DERIVATIVE[ScalarFunction(ctx.function)]
        return ops.scalar_function(derivative, kappa, ctx.d, FAMILIES[ctx.family])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad / _Inverse._slope(ctx), None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return tangent / _Inverse._slope(ctx)


@register_autograd("concentration_of")
def _(*arguments: Any) -> Tensor:
    result: Tensor = _Inverse.apply(*arguments)
    return result


@register_fake("concentration_of")
def _(value: Tensor, *_: Any) -> Tensor:
    return value.new_empty(value.shape)

"""The scalar functions of (kappa, d) of a family -> csrc/scalar_function.h,
csrc/cpu/scalar_function.cpp, csrc/cuda/scalar_function.cu."""

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
from .._tensors import is_dtensor, savable
from ..families import FAMILIES, Family
from ._dispatch import (
    differentiable_vjp,
    is_differentiable,
    own_rows,
    promote,
)

__all__ = [
    "ScalarFunction",
    "entropy",
    "kl_uniform",
    "log_prob_at_mode",
    "log_prob_at_mode_over_uniform",
    "mean_resultant_length",
    "scalar_function",
]

_op, _kernel = raw_op("scalar_function")


class ScalarFunction(IntEnum):
    """What the raw op calls `function`; ScalarFunction in csrc/scalar_function.h."""

    LOG_PROB_AT_MODE = 0
    LOG_PROB_AT_MODE_DKAPPA = 1
    LOG_PROB_AT_MODE_DKAPPA2 = 2
    MEAN_RESULTANT_LENGTH = 3
    MEAN_RESULTANT_LENGTH_DKAPPA = 4
    KL_UNIFORM = 5
    KL_UNIFORM_DKAPPA = 6
    LOG_PROB_AT_MODE_OVER_UNIFORM = 7
    ENTROPY = 8


# The sign and the index of the derivative. A function that is not here takes the derivative of its
# reference.
_DERIVATIVE: dict[int, tuple[int, int]] = {
    function.value: (sign, derivative.value)
    for function, sign, derivative in (
        (ScalarFunction.LOG_PROB_AT_MODE, 1, ScalarFunction.LOG_PROB_AT_MODE_DKAPPA),
        (ScalarFunction.LOG_PROB_AT_MODE_DKAPPA, 1, ScalarFunction.LOG_PROB_AT_MODE_DKAPPA2),
        (ScalarFunction.MEAN_RESULTANT_LENGTH, 1, ScalarFunction.MEAN_RESULTANT_LENGTH_DKAPPA),
        (ScalarFunction.KL_UNIFORM, 1, ScalarFunction.KL_UNIFORM_DKAPPA),
        (ScalarFunction.LOG_PROB_AT_MODE_OVER_UNIFORM, 1, ScalarFunction.LOG_PROB_AT_MODE_DKAPPA),
        (ScalarFunction.ENTROPY, -1, ScalarFunction.KL_UNIFORM_DKAPPA),
    )
}


def log_prob_at_mode(concentration: Tensor, d: int, family: Family) -> Tensor:
    """log p(mu), shape (...): the log-density at the mode."""
    return scalar_function(ScalarFunction.LOG_PROB_AT_MODE, concentration, d, family)


def log_prob_at_mode_over_uniform(concentration: Tensor, d: int, family: Family) -> Tensor:
    """log p(mu) + log surface area, shape (...): the log-ratio to the uniform density."""
    return scalar_function(ScalarFunction.LOG_PROB_AT_MODE_OVER_UNIFORM, concentration, d, family)


def mean_resultant_length(concentration: Tensor, d: int, family: Family) -> Tensor:
    """E[t], shape (...)."""
    return scalar_function(ScalarFunction.MEAN_RESULTANT_LENGTH, concentration, d, family)


def kl_uniform(concentration: Tensor, d: int, family: Family) -> Tensor:
    """KL(p || uniform), shape (...)."""
    return scalar_function(ScalarFunction.KL_UNIFORM, concentration, d, family)


def entropy(concentration: Tensor, d: int, family: Family) -> Tensor:
    """log surface area - KL(p || uniform), shape (...)."""
    return scalar_function(ScalarFunction.ENTROPY, concentration, d, family)


def scalar_function(
    function: ScalarFunction, concentration: Tensor, d: int, family: Family
) -> Tensor:
    """One of the functions, elementwise on ``concentration`` (...)."""
    result: Tensor
    if concentration.dtype is not torch.float32:
        (concentration,) = promote(concentration)
    if not has_kernel(concentration):
        if is_dtensor(concentration):
            rows = own_rows((), (concentration,))
            return rows.whole(scalar_function(function, rows.local[0], d, family))
        (concentration,) = savable(concentration)
        return _reference(function, concentration, d, family)
    number = int(function)  # the op takes a microsecond longer to read an enum
    needs_grad = torch.is_grad_enabled() and concentration.requires_grad
    if is_compiling() or is_tracing():
        result = _op(concentration, d, family.index, number)
    elif needs_grad:
        result = _ScalarFunction.apply(*savable(concentration), d, family.index, number)
    else:
        result = _kernel(concentration, d, family.index, number)
    return result


def _reference(function: int, kappa: Tensor, d: int, family: Family) -> Tensor:
    name = ScalarFunction(function).name.lower()
    return reference.scalar_function(name, family.inside(kappa), d, family.reference)


@register_decomposition("scalar_function")
def _(kappa: Tensor, d: int, family: int, function: int) -> Tensor:
    return _reference(function, kappa, d, FAMILIES[family])


class _ScalarFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, d: int, family: int, function: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.arguments = d, family, function
        result: Tensor = _kernel(kappa, d, family, function)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (kappa,), (d, family, function) = ctx.saved_tensors, ctx.arguments
        if function not in _DERIVATIVE:
            (result,) = differentiable_vjp(
                lambda k: _reference(function, k, d, FAMILIES[family]), [kappa], [True], grad
            )
        else:
            sign, derivative = _DERIVATIVE[function]
            slope = _scalar_function(kappa, d, family, derivative)
            result = grad * slope if sign > 0 else -grad * slope
        return result, None, None, None


@register_autograd("scalar_function")
def _scalar_function(kappa: Tensor, d: int, family: int, function: int) -> Tensor:
    result: Tensor
    if is_differentiable(kappa):
        result = _ScalarFunction.apply(*savable(kappa), d, family, function)
    else:
        result = _kernel(kappa, d, family, function)
    return result


@register_fake("scalar_function")
def _(kappa: Tensor, d: int, family: int, function: int) -> Tensor:
    return torch.empty_like(kappa, memory_format=torch.contiguous_format)

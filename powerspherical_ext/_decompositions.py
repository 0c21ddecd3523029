"""Raw ops as operations of torch, for programs that leave torch."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._decomp import register_decomposition as register_with_torch
from torch.overrides import TorchFunctionMode

from ._kernels import OPS

__all__ = ["DECOMPOSITIONS", "register_decomposition"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}


def register_decomposition(name: str) -> Callable[[_Function], _Function]:
    """Registers what computes a raw op by operations of torch, without loops that depend on values.

    torch.onnx.export finds it in torch's own table.
    """

    def register(function: _Function) -> _Function:
        if hasattr(OPS, name):

            @wraps(function)
            def decomposition(*arguments: Any) -> Any:
                with _Portable():
                    return function(*arguments)

            op = getattr(OPS, name).default
            register_with_torch(op)(decomposition)
            DECOMPOSITIONS[op] = decomposition
        return function

    return register


class _Portable(TorchFunctionMode):
    """Functions that other runtimes lack, or compute with large errors, by those that all have.

    ONNX has no log1p and no expm1. The exporter of torch writes log(1 + x) for the first, which
    loses the digits of a small x. It also rounds Python's numbers to float32. So a number that
    float32 cannot hold becomes a sum of numbers that it can.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[tuple[float, torch.device], Tensor] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if name == "tensor":
            return self._table(*args, **kwargs)
        doubles = [x for x in args if isinstance(x, Tensor) and x.dtype == torch.float64]
        if doubles and name == "full_like":
            return self._constant(args[1], doubles[0].device).expand(args[0].shape)
        if doubles:
            args = tuple(self._exact(x, doubles[0].device) for x in args)
            kwargs = {key: self._exact(x, doubles[0].device) for key, x in kwargs.items()}
        return _PORTABLE.get(name, function)(*args, **kwargs)

    def _exact(self, x: Any, device: torch.device) -> Any:
        """x, or a tensor where x is a number that float32 cannot hold."""
        if isinstance(x, float) and math.isfinite(x) and _float32(x) != x:
            return self._constant(x, device)
        return x

    def _constant(self, x: float, device: torch.device) -> Tensor:
        """The number x, in float64."""
        if (x, device) not in self._constants:
            total, rest, scale = None, float(x), 1.0
            if rest != 0 and not 1e-20 < abs(rest) < 1e20:  # its parts could be outside of float32
                scale = 2.0 ** math.frexp(rest)[1]
                rest = rest / scale
            while total is None or rest != 0:
                part = torch.full((), _float32(rest), dtype=torch.float64, device=device)
                total, rest = part if total is None else total + part, rest - _float32(rest)
            while scale != 1.0:
                factor = min(max(scale, 2.0**-120), 2.0**120)
                total, scale = total * factor, scale / factor
            self._constants[x, device] = total
        return self._constants[x, device]

    def _table(
        self, values: Any, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        if isinstance(values, (list, tuple)):
            return torch.stack([self._table(x, dtype, device) for x in values])
        if dtype != torch.float64:
            return torch.full((), values, dtype=dtype, device=device)
        return self._constant(values, device)


def _float32(x: float) -> float:
    """The number of float32 that is nearest to x."""
    try:
        return float(struct.unpack("f", struct.pack("f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def _log1p(x: Tensor) -> Tensor:
    """log1p(x) = log(u) x/(u - 1) of u = 1 + x as it is rounded (Kahan; Higham, 2002, 1.14.1)."""
    u = 1 + x
    far = u - 1
    exact = (far == 0) | (u == torch.inf)
    return torch.where(exact, x, u.log() * (x / torch.where(exact, 1.0, far)))


def _expm1(x: Tensor) -> Tensor:
    """expm1(x) = (u - 1) x/log(u) of u = exp(x) as it is rounded (Kahan; Higham, 2002, 1.14.1)."""
    u = x.exp()
    far = u - 1
    exact, large = far == 0, (far == -1) | (u == torch.inf)
    divisor = torch.where(exact | large, 1.0, u).log()
    near = far * (x / torch.where(exact | large, 1.0, divisor))
    return torch.where(exact, x, torch.where(large, far, near))


def _sinh(x: Tensor) -> Tensor:
    up = _expm1(x.abs())
    return 0.5 * x.sign() * (up + up / (up + 1))


def _cosh(x: Tensor) -> Tensor:
    up = x.abs().exp()
    return 0.5 * (up + 1 / up)


def _asinh(x: Tensor) -> Tensor:
    size = x.abs()
    square = size * size
    return x.sign() * _log1p(size + square / (1 + (1 + square).sqrt()))


_PORTABLE: dict[str, Callable[..., Any]] = {
    "log1p": _log1p,
    "expm1": _expm1,
    "sinh": _sinh,
    "cosh": _cosh,
    "asinh": _asinh,
}

"""Raw ops as operations of torch, for programs that leave torch."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ._kernels import OPS

__all__ = ["DECOMPOSITIONS", "register_decomposition"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}


def register_decomposition(name: str) -> Callable[[_Function], _Function]:
    """Registers what computes a raw op by operations of torch, without loops that depend on values.

    It stays out of torch's own table, by which torch.compile would find the shapes of outputs.
    """

    def register(function: _Function) -> _Function:
        if hasattr(OPS, name):

            @wraps(function)
            def decomposition(*arguments: Any) -> Any:
                with _Portable():
                    return function(*arguments)

            op = getattr(OPS, name).default
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
        self._numbers: dict[tuple[float, torch.device], Tensor] = {}
        self._scalars: dict[tuple[float, torch.device], Tensor] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if name == "tensor":
            return self._table(*args, **kwargs)
        doubles = [x for x in args if isinstance(x, Tensor) and x.dtype == torch.float64]
        if doubles:
            device = doubles[0].device
            if name == "full_like":
                return self._table(args[1], torch.float64, device).expand(args[0].shape)
            args = tuple(self._exact(x, device) for x in args)
            kwargs = {key: self._exact(x, device) for key, x in kwargs.items()}
        return _PORTABLE.get(name, function)(*args, **kwargs)

    def _exact(self, x: Any, device: torch.device) -> Any:
        """x, or a tensor where x is a number that float32 cannot hold."""
        if isinstance(x, float) and math.isfinite(x) and _float32(x) != x:
            if (x, device) not in self._scalars:
                self._scalars[x, device] = self._table(x, torch.float64, device)
            return self._scalars[x, device]
        return x

    def _table(self, values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What torch.tensor makes of a number, or of nested lists of numbers."""
        sizes, numbers = [], [values]
        while isinstance(numbers[0], list | tuple):
            sizes.append(len(numbers[0]))
            numbers = [x for row in numbers for x in row]
        if dtype == torch.float64:
            scale = 2.0 ** min(max(math.frexp(max(map(abs, numbers)))[1], -900), 900)
            if 2.0**-60 < scale < 2.0**60:
                scale = 1.0
            numbers = [x / scale for x in numbers]  # so that each part is in the range of float32
            high = [_float32(x) for x in numbers]
            low = [_float32(x - part) for x, part in zip(numbers, high, strict=True)]
            result = self._joined(high, device)
            if any(low):
                result = result + self._joined(low, device)
            while scale != 1:
                factor = min(max(scale, 2.0**-100), 2.0**100)
                result, scale = result * factor, scale / factor
            return result.reshape(sizes)
        parts = [torch.full((1,), x, dtype=dtype, device=device) for x in numbers]
        return torch.cat(parts).reshape(sizes)

    def _joined(self, numbers: list[float], device: torch.device) -> Tensor:
        """Numbers of float32 in float64."""
        for x in numbers:
            if (x, device) not in self._numbers:
                self._numbers[x, device] = torch.full((1,), x, dtype=torch.float64, device=device)
        return torch.cat([self._numbers[x, device] for x in numbers])


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

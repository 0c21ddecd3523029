"""The raw ops of the compiled library, and when one may be called."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._library import CPU_KERNELS, CUDA_KERNELS, rebuild
from ._tensors import is_dtensor

__all__ = [
    "LIBRARY",
    "OPS",
    "below_autograd",
    "can_check",
    "has_kernel",
    "is_compiling",
    "is_tracing",
    "raw_op",
    "register_autograd",
    "register_fake",
    "transform_active",
    "values_are_readable",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

is_compiling = torch.compiler.is_compiling
is_tracing = torch._C._is_tracing  # by torch.jit.trace
_functorch_active = torch._C._are_functorch_transforms_active
below_autograd = torch._C._AutoDispatchBelowAutograd
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_NO_MEMORY = re.compile(r"powerspherical_ext: cannot allocate (\d+) bytes on (\S+): ")

LIBRARY = torch.library.Library("powerspherical_ext", "FRAGMENT")
OPS = torch.ops.powerspherical_ext


def raw_op(name: str) -> tuple[Any, Any]:
    """The raw op of that name, and its kernel: a function that runs it below autograd.

    Both are None where the library is not loaded; then `has_kernel` never says yes.
    """
    if not CPU_KERNELS:
        return None, None
    try:
        op = getattr(OPS, name).default
    except AttributeError:
        raise ImportError(
            f"the compiled kernels of powerspherical_ext lack {name}: they are older than its "
            f"Python files. This builds them again: {rebuild()}"
        ) from None
    function = op._op  # without the call in Python that op() makes

    def kernel(*arguments: Any) -> Any:
        try:
            with below_autograd():
                return function(*arguments)
        except RuntimeError as error:
            if failed := _NO_MEMORY.match(str(error)):  # raises what a function of torch raises
                torch.empty(int(failed[1]), dtype=torch.uint8, device=failed[2])
            raise

    return op, kernel


def register_autograd(name: str) -> Callable[[_Function], _Function]:
    """Registers what computes a raw op above the Autograd key."""

    def register(function: _Function) -> _Function:
        if hasattr(OPS, name):
            LIBRARY.impl(name, function, "Autograd")
        return function

    return register


def register_fake(name: str) -> Callable[[_Function], _Function]:
    """Registers what gives a raw op's outputs their shapes and dtypes when it is traced."""

    def register(function: _Function) -> _Function:
        @wraps(function)
        def on_one_device(*arguments: Any) -> Any:
            devices = sorted({str(x.device) for x in arguments if isinstance(x, Tensor)})
            if len(devices) > 1:  # such as meta and cpu, which torch sends here
                raise RuntimeError(
                    f"powerspherical_ext: {name}: all tensors must be on one device, "
                    f"got {' and '.join(devices)}"
                )
            return function(*arguments)

        if hasattr(OPS, name):
            torch.library.register_fake(f"powerspherical_ext::{name}", on_one_device)
        return function

    return register


def has_kernel(x: Tensor) -> bool:
    """Whether a kernel can compute with ``x``: no DTensor, on its device, outside of transforms."""
    on_device = CPU_KERNELS if x.is_cpu else CUDA_KERNELS and x.is_cuda
    return (
        on_device
        and not _functorch_active()
        and forward_ad._current_level < 0
        and (type(x) is Tensor or not is_dtensor(x))  # which spares most calls of is_dtensor
    )


def transform_active() -> bool:
    """Whether a functorch transform or forward-mode AD is running. Both names are private to torch:
    tests/ops/test_transforms.py checks that they still answer."""
    return _functorch_active() or forward_ad._current_level >= 0


def values_are_readable(x: Tensor) -> bool:
    """Whether Python may look at the values of ``x``.

    It may not in a program that a compiler, a tracer, torch.func or a mode like FakeTensorMode
    runs, nor where ``x`` is of a class that stands for other values, or for none.
    """
    return not (
        is_compiling()
        or is_tracing()
        or transform_active()
        or torch._C._len_torch_dispatch_stack()
        or type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__
    )


def can_check(x: Tensor) -> bool:
    """Whether a kernel can check the values of ``x``, and Python read its answer."""
    return values_are_readable(x) and CPU_KERNELS and x.is_cpu and x.dtype in _FLOATS

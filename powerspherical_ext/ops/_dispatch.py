"""Which way a call takes, and in which dtype it computes.

A public function takes one of five ways:

* through `_sharding`, where a tensor is a DTensor: it computes the rows of this process;
* to `reference`, which supports every transform, where a functorch transform or forward-mode AD is
  active, or the device has no kernels;
* to the raw op, where torch.compile, torch.export or torch.jit.trace reads the program. The raw op
  has a kernel at the Autograd key, so that its gradient belongs to the graph;
* to the autograd.Function of the op, where a gradient is wanted;
* else to the raw op below autograd.

The last two are the same computations as the third, and spare a small call the Python kernel at
the Autograd key. That kernel applies the same autograd.Function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import IntFlag
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._library import CPU_KERNELS, CUDA_KERNELS
from .._tensors import savable

if TYPE_CHECKING:
    from ._sharding import Shards

__all__ = [
    "BelowAutograd",
    "NeedsGrad",
    "as_dtensors",
    "batch_shape",
    "common_dtype",
    "differentiable_vjp",
    "everywhere",
    "fake_vectors",
    "for_kernel",
    "has_kernel",
    "has_one_dtype",
    "is_compiling",
    "is_differentiable",
    "is_sharded",
    "is_tracing",
    "promote",
    "raw_op",
    "register_autograd",
    "register_fake",
    "rows_here",
    "summed",
    "values_are_readable",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

BelowAutograd = torch._C._AutoDispatchBelowAutograd
is_compiling = torch.compiler.is_compiling
is_tracing = torch._C._is_tracing  # by torch.jit.trace
_FLOAT32, _FLOAT64 = torch.float32, torch.float64
_PLAIN = (Tensor, torch.nn.Parameter)
_functorch_active = torch._C._are_functorch_transforms_active

_LIBRARY = torch.library.Library("powerspherical_ext", "IMPL")


class NeedsGrad(IntFlag):
    """The gradients that a raw op returns; NeedsGrad in csrc."""

    VALUE = 1  # the value, or the loss's target
    MU = 2  # the mean direction, or the loss's prediction
    KAPPA = 4
    SUMMED = 8  # those of vectors summed to the shapes of the vectors; CPU kernels can do that


def raw_op(name: str) -> tuple[Any, Any]:
    """The raw op of that name, and the function behind it, which spares a call in Python.

    Both are None where the library is not loaded; then `has_kernel` never says yes.
    """
    if not CPU_KERNELS:
        return None, None
    op = getattr(torch.ops.powerspherical_ext, name).default
    return op, op._op


def register_autograd(name: str) -> Callable[[_Function], _Function]:
    """Registers what computes a raw op above the Autograd key."""

    def register(function: _Function) -> _Function:
        if CPU_KERNELS:
            _LIBRARY.impl(name, function, "Autograd")
        return function

    return register


def register_fake(name: str) -> Callable[[_Function], _Function]:
    """Registers what gives a raw op's outputs their shapes and dtypes when it is traced."""

    def register(function: _Function) -> _Function:
        if CPU_KERNELS:
            torch.library.register_fake(f"powerspherical_ext::{name}", function)
        return function

    return register


def has_kernel(x: Tensor) -> bool:
    """Whether a kernel can compute with ``x``: on its device, and outside of transforms."""
    on_device = CPU_KERNELS if x.is_cpu else CUDA_KERNELS and x.is_cuda
    return on_device and not _functorch_active() and forward_ad._current_level < 0


def is_sharded(*tensors: Tensor) -> bool:
    """Whether any is a DTensor."""
    for x in tensors:
        if type(x) not in _PLAIN:
            module = sys.modules.get("torch.distributed.tensor")
            return module is not None and any(isinstance(x, module.DTensor) for x in tensors)
    return False


def as_dtensors(*tensors: Tensor) -> Sequence[Tensor]:
    """The tensors as DTensors, as one of them is."""
    from ._sharding import beside

    return beside(tensors)


def everywhere(x: Tensor, like: Any) -> Tensor:
    """A tensor that is the same in all processes, as a DTensor where ``like`` is one."""
    if is_sharded(x) or not is_sharded(like):
        return x
    from ._sharding import replicated

    return replicated(x, like.device_mesh)


def rows_here(vectors: Sequence[Tensor], scalars: Sequence[Tensor]) -> Shards:
    """The rows of this process, where one of the tensors `is_sharded`."""
    from ._sharding import Shards

    return Shards(vectors, scalars)


def values_are_readable(x: Tensor) -> bool:
    """Whether Python may look at the values of ``x``.

    It may not in a program that a compiler, a tracer, torch.func or a mode like FakeTensorMode
    runs, nor where ``x`` is of a class that stands for other values, or for none. Some of the names
    are private to torch: tests/ops/test_transforms.py checks that they still answer.
    """
    return not (
        is_compiling()
        or is_tracing()
        or _functorch_active()
        or forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack()
        or type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__
    )


def is_differentiable(*tensors: Tensor) -> bool:
    """Whether autograd would record an operation on these tensors."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def common_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: the tensors' promoted one, and at least float32."""
    return reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)


def promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common dtype."""
    if has_one_dtype(tensors):
        return tensors
    dtype = common_dtype(*tensors)
    return tuple(x.to(dtype) for x in tensors)


def for_kernel(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as a kernel takes them; the last is the concentration.

    A kernel reads vectors of any dtype, and computes in that of the concentration. On CUDA, a
    kernel that computes in float64 reads float64 alone.
    """
    if has_one_dtype(tensors):
        return tensors
    *vectors, concentration = tensors
    dtype = common_dtype(*tensors)
    if dtype is torch.float64 and concentration.device.type == "cuda":
        return promote(*tensors)
    return *vectors, concentration.to(dtype)


def has_one_dtype(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all are float32, or all float64."""
    first, *others = tensors  # a loop, since all(...) takes longer than the kernel of a small batch
    dtype = first.dtype
    for x in others:
        if x.dtype is not dtype:
            return False
    return dtype is _FLOAT32 or dtype is _FLOAT64


def summed(grad: Tensor) -> int:
    """The bit that asks for the gradients of expanded vectors summed, where kernels can do that."""
    return NeedsGrad.SUMMED if grad.is_cpu else 0


def batch_shape(*shapes: torch.Size) -> torch.Size:
    shape: torch.Size = torch.broadcast_shapes(*shapes)
    return shape


def fake_vectors(like: Tensor, batch: torch.Size, needs_grad: int, bit: NeedsGrad) -> Tensor:
    """The gradient of the vectors ``like`` (..., d) that a raw op returns, in a trace."""
    if not needs_grad & bit:
        return like.new_empty(0)
    is_summed = needs_grad & NeedsGrad.SUMMED
    return like.new_empty(like.shape if is_summed else (*batch, like.shape[-1]))


def differentiable_vjp(
    function: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """The vector-Jacobian product of ``function`` as torch operations, which autograd records.

    It has an entry for each tensor, None where the gradient is not needed.
    """
    with torch.enable_grad():
        *tensors, grad = savable(*tensors, grad)
        inputs = [x if x.requires_grad else x.detach().requires_grad_() for x in tensors]
        output = function(*inputs)
        wanted = [x for x, is_needed in zip(inputs, needed, strict=True) if is_needed]
        grads = iter(torch.autograd.grad(output, wanted, grad, create_graph=True))
    return [next(grads) if is_needed else None for is_needed in needed]

"""Which way a call takes, and in which dtype it computes.

A public function takes one of five ways:

* through `own_rows`, where the first tensor is a DTensor: it calls itself with plain tensors;
* to `reference`, which supports every transform, where a functorch transform or forward-mode AD is
  active, or the device has no kernels;
* to the raw op, where torch.compile, torch.export or torch.jit.trace reads the program. The raw op
  has a kernel at the Autograd key, so that its gradient belongs to the graph;
* to the autograd.Function of the op, where a gradient is wanted;
* else to the raw op below autograd.

An op that no kernel computes, `python_op`, takes the same ways, on every device.

The last two are the same computations as the third, and spare a small call the Python kernel at
the Autograd key. That kernel applies the same autograd.Function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntFlag
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .._kernels import LIBRARY, OPS, below_autograd, is_compiling, is_tracing, transform_active
from .._tensors import savable
from ..families import FAMILIES

if TYPE_CHECKING:
    from .._sharding import Rows

__all__ = [
    "NeedsGrad",
    "batch_shape",
    "common_dtype",
    "differentiable_vjp",
    "fake_batch",
    "fake_vectors",
    "for_kernel",
    "has_one_dtype",
    "is_differentiable",
    "is_traced",
    "own_rows",
    "promote",
    "python_op",
    "summed",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FLOAT32, _FLOAT64 = torch.float32, torch.float64


class NeedsGrad(IntFlag):
    """The gradients that a raw op returns; NeedsGrad in csrc."""

    VALUE = 1  # the value, or the loss's target
    MU = 2  # the mean direction, or the loss's prediction
    KAPPA = 4
    SUMMED = 8  # those of vectors summed to the shapes of the vectors; CPU kernels can do that


def python_op(schema: str) -> Callable[[_Function], _Function]:
    """Makes an op of a function in plain torch, on every device.

    What traces a program sees one call of the op, and not each step of the function's loops. What
    takes the function's place calls the op below autograd. Within a transform, and where autograd
    would record the steps, it takes the steps itself.
    """
    name = schema.partition("(")[0]

    def define(function: _Function) -> _Function:
        def checked(*arguments: Any) -> Any:
            _check(name, dict(zip(names, arguments, strict=True)))
            return function(*arguments)

        def kernel(*arguments: Any) -> Any:  # has contiguous outputs, as the fake kernel says
            outputs = checked(*arguments)
            if isinstance(outputs, Tensor):
                return outputs.contiguous()
            return tuple(x.contiguous() for x in outputs)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            if transform_active() or is_differentiable(
                *(x for x in arguments if isinstance(x, Tensor))
            ):
                return checked(*arguments)
            with below_autograd():
                return op(*arguments)

        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
        op = getattr(OPS, name).default
        names = [argument.name for argument in op._schema.arguments]
        return call  # type: ignore[return-value]

    return define


def _check(op: str, arguments: dict[str, Any]) -> None:
    """Refuses what a kernel in plain torch cannot take, as csrc/operands.h does for the others."""
    operands = {key: x for key, x in arguments.items() if isinstance(x, Tensor)}
    state = operands.pop("rng_state", None)
    if state is not None and (state.dtype != torch.int64 or state.shape != (2,)):
        raise ValueError(
            f"{op}: rng_state must be int64 of shape (2,), got {state.dtype} {tuple(state.shape)}"
        )
    if not has_one_dtype(tuple(operands.values())):
        dtypes = ", ".join(f"{key} {x.dtype}" for key, x in operands.items())
        raise TypeError(f"{op}: the operands must all be float32, or all float64, got {dtypes}")
    if arguments.get("dtype", torch.float64) not in (torch.float32, torch.float64):
        raise TypeError(f"{op}: dtype must be float32 or float64, got {arguments['dtype']}")
    if arguments["d"] < 2:
        raise ValueError(f"{op}: the dimension must be d >= 2, got {arguments['d']}")
    if not 0 <= arguments["family"] < len(FAMILIES):
        raise ValueError(f"{op}: no family has index {arguments['family']}")


def own_rows(vectors: Sequence[Tensor], scalars: Sequence[Tensor]) -> Rows:
    """The rows of this process, where the first of the tensors is a DTensor."""
    from .._sharding import Rows  # which takes a second to load

    return Rows(vectors, scalars)


def is_traced() -> bool:
    """Whether a compiler, exporter or torch.jit.trace reads the program, outside of transforms."""
    return (is_compiling() or is_tracing()) and not transform_active()


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
    """The bit that asks for the gradients of expanded vectors summed, where kernels can do that.

    They have room for eight batch dimensions; kMaxBatchDims in csrc/operands.h.
    """
    return NeedsGrad.SUMMED if grad.is_cpu and grad.dim() <= 8 else 0


def batch_shape(*shapes: torch.Size) -> torch.Size:
    shape: torch.Size = torch.broadcast_shapes(*shapes)
    return shape


def fake_batch(vectors: Sequence[Tensor], *scalars: Tensor) -> torch.Size:
    """The batch shape of vectors (..., d) and scalars (...), in a trace."""
    if not all(x.dim() for x in vectors):
        raise RuntimeError("powerspherical_ext: vectors must have at least one dimension")
    d, *others = (x.shape[-1] for x in vectors)
    torch._check(d >= 2, lambda: f"powerspherical_ext: the sphere needs d >= 2, got {d}")
    for other in others:
        torch._check(other == d, lambda: f"powerspherical_ext: dimensions {others}, expected {d}")
    return batch_shape(*(x.shape[:-1] for x in vectors), *(x.shape for x in scalars))


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

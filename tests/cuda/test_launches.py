"""How many kernels a public call launches on a GPU: ours by the emulator, torch's by its ops.

The calls run on the CPU, with the kernels of csrc/cuda, which the emulator runs and counts. A mode
sees the ops of torch beside them, in the forward and in the backward pass. Each launches a kernel,
but for those that allocate, make a view, or have nothing to write. The mode also keeps Python from
reading values, as a GPU does.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_emulated as emulated
import torch
from cases import needs_kernels
from outside import each_law
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import powerspherical_ext
from powerspherical_ext import vi_simsiam_loss
from powerspherical_ext._kernels import below_autograd
from powerspherical_ext.families import Family

pytestmark = [emulated.pytestmark, needs_kernels]
library = emulated.library

ROWS, LONG = (8, 64), (2, 8260)  # long rows, of which there are few, are split
NO_LAUNCH = {"aten::detach", "aten::promote_types", "aten::empty", "aten::new_empty"}
KERNELS = {  # of the modules of powerspherical_ext.ops
    "log_prob": {"_kernel": "log_prob", "_backward_kernel": "log_prob_backward"},
    "rsample": {
        "_kernel": "rsample",
        "_rounded_kernel": "rsample_rounded",
        "_backward_kernel": "rsample_backward",
    },
    "vi_simsiam_loss": {"_kernel": "vi_simsiam_loss", "_scale_kernel": "scale_gradients_"},
}

each_precision = pytest.mark.parametrize("vectors", [torch.float32, torch.bfloat16], ids=str)


class TorchOps(TorchDispatchMode):
    """The names of torch's ops that launch a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        name = op._schema.name
        written = args[0] if result is None else result  # in place, or new
        tensors = written if isinstance(written, list | tuple) else [written]
        writes = any(isinstance(t, Tensor) and t.numel() > 0 for t in tensors)
        if name.startswith("aten::") and name not in NO_LAUNCH and not op.is_view and writes:
            self.names.append(name)
        return result


def kernel(name: str) -> Callable[..., Any]:
    """A raw op of the emulated library, as powerspherical_ext._kernels.raw_op makes one."""
    op = getattr(emulated.cuda, name).default

    def call(*arguments: Any) -> Any:
        with below_autograd():
            return op(*arguments)

    return call


@pytest.fixture(autouse=True)
def kernels_of_cuda(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public calls run the emulated kernels, which do not sum gradients of expanded vectors."""
    for name, kernels in KERNELS.items():
        module = sys.modules[f"powerspherical_ext.ops.{name}"]
        for attribute, op in kernels.items():
            monkeypatch.setattr(module, attribute, kernel(op))
        if hasattr(module, "summed"):
            monkeypatch.setattr(module, "summed", lambda grad: 0)


@pytest.fixture
def launches(library: Path) -> Callable[[Callable[[], Any]], tuple[int, list[str]]]:
    """Runs a call; returns the number of our kernels, and torch's ops that launch one."""
    count = ctypes.CDLL(str(library)).emulated_launches
    count.restype = ctypes.c_int64

    def of(call: Callable[[], Any]) -> tuple[int, list[str]]:
        before = count()
        with TorchOps() as torch_ops:
            call()
        return count() - before, torch_ops.names

    return of


def rows(shape: tuple[int, int], dtype: torch.dtype) -> Iterator[Tensor]:
    """Vectors that require gradients, without end."""
    torch.manual_seed(0)
    while True:
        yield emulated.points(*shape, dtype=dtype).requires_grad_()


def concentration(law: Family, n: int, dtype: torch.dtype) -> Tensor:
    return (torch.rand(n, dtype=dtype) * min(law.upper_bound, 10) / 2).requires_grad_()


def distribution(law: Family, loc: Tensor, kappa: Tensor) -> Any:
    name = "".join(word.capitalize() for word in law.name.split("_"))
    return getattr(powerspherical_ext, name)(loc, kappa, validate_args=False)


@each_precision
@pytest.mark.parametrize(("shape", "kernels"), [(ROWS, 2), (LONG, 4)])
@each_law
def test_log_prob(
    launches: Any, law: Family, shape: tuple[int, int], kernels: int, vectors: torch.dtype
) -> None:
    """One kernel for each pass, and two for rows that are split. A concentration in half precision
    is converted to float32, and its gradient back."""
    vector, kappa = rows(shape, vectors), concentration(law, shape[0], vectors)
    x, loc = next(vector), next(vector)
    upstream = torch.ones(shape[0])

    def call() -> None:
        log_prob = distribution(law, loc, kappa).log_prob(x)
        torch.autograd.grad(log_prob, (x, loc, kappa), upstream)

    converted = [] if vectors is torch.float32 else ["aten::_to_copy"] * 2
    assert launches(call) == (kernels, converted)


@each_precision
@pytest.mark.parametrize(("shape", "kernels"), [(ROWS, 2), (LONG, 4)])
@each_law
def test_rsample(
    launches: Any, law: Family, shape: tuple[int, int], kernels: int, vectors: torch.dtype
) -> None:
    """The seed is one more. In half precision the concentration is converted, and its gradient. The
    kernel writes the sample twice, since the backward pass needs it as it is before rounding."""
    loc, kappa = next(rows(shape, vectors)), concentration(law, shape[0], vectors)
    upstream = torch.ones(shape, dtype=vectors)

    def call() -> None:
        sample = distribution(law, loc, kappa).rsample()
        torch.autograd.grad(sample, (loc, kappa), upstream)

    converted = [] if vectors is torch.float32 else ["aten::_to_copy"] * 2
    assert launches(call) == (kernels, ["aten::randint", *converted])


def add(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, *kappas: Tensor, **options: Any) -> Tensor:
    one = vi_simsiam_loss(p1, z2, kappas[0], **options)
    return one + vi_simsiam_loss(p2, z1, kappas[1], **options)


def average(
    p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, *kappas: Tensor, **options: Any
) -> Tensor:
    return vi_simsiam_loss([p1, p2], [z1, z2], kappas, **options)


@each_precision
@pytest.mark.parametrize(("loss", "torch_launches"), [(average, []), (add, ["aten::add"])])
@each_law
def test_loss_of_two_directions(
    launches: Any, law: Family, loss: Any, torch_launches: list[str], vectors: torch.dtype
) -> None:
    """For each direction one kernel in the forward pass, which computes the sum over the samples
    and the gradients, and one in the backward pass, which multiplies the gradients by what arrives.
    The call with lists adds the directions up in the second kernel; two calls are added by torch.
    """
    vector = rows(ROWS, vectors)
    p1, p2, z1, z2 = (next(vector) for _ in range(4))
    kappa1, kappa2 = (concentration(law, ROWS[0], vectors) for _ in range(2))
    upstream = torch.ones(())

    def call() -> None:
        both = loss(p1, p2, z1, z2, kappa1, kappa2, distribution=law.name)
        torch.autograd.grad(both, (p1, p2, kappa1, kappa2), upstream)

    kernels, torch_ops = launches(call)
    assert kernels == 4
    converted = [] if vectors is torch.float32 else ["aten::_to_copy"] * 4
    assert sorted(torch_ops) == sorted([*torch_launches, *converted])


def test_the_mode_sees_launches_and_no_views(launches: Any) -> None:
    x = torch.ones(2, 3)
    assert launches(lambda: x.t().exp().mul_(2)[0].detach()) == (0, ["aten::exp", "aten::mul_"])
    assert launches(lambda: x[:0] * 2 + torch.empty(0, 3)) == (0, [])

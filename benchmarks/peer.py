"""How an implementation is called and timed: with torch, NumPy or JAX."""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from work import FAMILIES, QUANTITIES, Case, inputs

Run = Callable[[], Any]
Functions = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Peer:
    name: str
    functions: Callable[[Case], Functions]  # called once for each case
    note: str = ""  # a description for the reader of the tables
    runner: str = "torch"
    needs: str = ""  # a module; the peer is left out where it cannot be imported
    families: tuple[str, ...] = tuple(FAMILIES)
    sizes: tuple[tuple[int, int], ...] = ()  # (n, d) it is shown at; default all
    quantities: tuple[str, ...] = tuple(QUANTITIES)
    backward: bool = True
    in_both_memories: bool = False  # otherwise it is timed in that which glibc chooses
    part: bool = False  # it does a part of the work, as a yardstick: its result is not checked
    # The reason for results that are known to be wrong. They are reported, with the time that they
    # took. A wrong result of any other peer fails the run.
    flaw: str = ""
    # It goes through torch.compile, which takes up to minutes for other quantities than densities.
    compiles: bool = False
    dynamic: bool | None = False  # of torch.compile; None: sizes become symbols when they change
    rival: bool = True  # counts for the speed map: not a part, and not a variant of ours

    def can(self, case: Case) -> bool:
        return (
            _importable(self.needs)
            and case.family in self.families
            and case.quantity in self.functions(case)
            and (self.backward or not case.backward)
            and (not self.sizes or (case.n, case.d) in self.sizes)
            and (self.in_both_memories or not case.other_memory)
            and case.quantity in self.quantities
            and (self.runner == "torch" or case.device == "cpu")
            and (self.runner == "torch" or case.dtype != torch.bfloat16)
        )

    def prepare(self, case: Case) -> Run:
        f = self.functions(case)[case.quantity]
        if self.compiles:
            torch._dynamo.config.recompile_limit = 64  # every family, size and pass is one of these
            f = torch.compile(f, dynamic=self.dynamic)
        return _RUNNERS[self.runner](f, *inputs(case), case)

    def result(self, output: Any) -> list[Tensor]:
        """What `prepare(case)()` returned, as torch tensors."""
        return [torch.as_tensor(_numpy(v) if self.runner != "torch" else v) for v in output]


@functools.cache
def _importable(module: str) -> bool:
    with warnings.catch_warnings(), contextlib.suppress(Exception):  # TFP breaks in many ways
        warnings.simplefilter("ignore")
        return not module or bool(importlib.import_module(module))
    return False


def _numpy(value: Any) -> Any:
    import numpy as np

    return np.array(value)


def run_torch(f: Callable[..., Tensor], arguments: Any, upstream: Tensor, case: Case) -> Run:
    arguments = [v.detach().requires_grad_(i in case.wanted) for i, v in enumerate(arguments)]
    leaves = [arguments[i] for i in case.wanted]

    def forward() -> Any:
        with torch.no_grad():
            return (f(*arguments),)

    def forward_backward() -> Any:
        value = f(*arguments)
        return value, *torch.autograd.grad(value, leaves, upstream)

    return forward_backward if leaves else forward


def _run_numpy(f: Callable[..., Any], arguments: Any, upstream: Tensor, case: Case) -> Run:
    arguments = [v.numpy() for v in arguments]
    return lambda: (f(*arguments),)


def _run_jax(f: Callable[..., Any], arguments: Any, upstream: Tensor, case: Case) -> Run:
    """Jitted; the function's last argument is a random key, a new one for each call."""
    import jax

    jax.config.update("jax_enable_x64", case.dtype == torch.float64)
    arguments = [jax.numpy.asarray(v.numpy()) for v in arguments]
    cotangent = jax.numpy.asarray(upstream.numpy())
    keys = iter(jax.random.split(jax.random.key(0), 10_000))

    @jax.jit
    def step(arguments: Any, cotangent: Any, key: Any) -> Any:
        if not case.wanted:
            return (f(*arguments, key),)

        def of_leaves(*leaves: Any) -> Any:
            whole = list(arguments)
            for i, leaf in zip(case.wanted, leaves, strict=True):
                whole[i] = leaf
            return f(*whole, key)

        value, pull_back = jax.vjp(of_leaves, *(arguments[i] for i in case.wanted))
        return value, *pull_back(cotangent)

    return lambda: jax.block_until_ready(step(arguments, cotangent, next(keys)))


_RUNNERS: dict[str, Callable[..., Run]] = {
    "torch": run_torch,
    "numpy": _run_numpy,
    "jax": _run_jax,
}

"""Who is compared: a table.

To add a peer, write its functions and a row of PEERS. A function has the signature of its quantity
in `work.QUANTITIES`; the runner of the row (torch, NumPy, JAX) converts the inputs, differentiates
and waits for the result. A quantity that a peer lacks is left out; nothing else needs to know.
"""

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
from work import LARGE, SIZES, Case, function, inputs, pair_loss

import powerspherical_ext
from powerspherical_ext import ops

Run = Callable[[], Any]
Functions = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Peer:
    name: str
    functions: Callable[[Case], Functions]  # called once for each case
    runner: str = "torch"
    needs: str = ""  # a module; the peer is left out where it cannot be imported
    backward: bool = True
    part: bool = False  # does only a part of the work, as a yardstick: its result is not checked
    # By torch.compile; skipped where that is too slow, as it is for samplers (minutes).
    compiles: bool = False
    only: tuple[tuple[int, int], ...] = ()  # the sizes (n, d) it is shown at; default all
    families: tuple[str, ...] = ("PowerSpherical",)

    def can(self, case: Case) -> bool:
        return (
            _importable(self.needs)
            and case.family in self.families
            and case.quantity in self.functions(case)
            and (self.backward or not case.backward)
            and (not self.only or (case.n, case.d) in self.only)
            and (not self.compiles or case.quantity != "rsample")
            and (self.runner == "torch" or case.device == "cpu")
        )

    def prepare(self, case: Case) -> Run:
        f = self.functions(case)[case.quantity]
        if self.compiles:
            f = torch.compile(f, dynamic=False)
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


def _run_torch(f: Callable[..., Tensor], arguments: Any, upstream: Tensor, case: Case) -> Run:
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
    "torch": _run_torch,
    "numpy": _run_numpy,
    "jax": _run_jax,
}


def _ours(case: Case) -> Functions:
    family = getattr(powerspherical_ext, case.family)

    def loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
        one = powerspherical_ext.vi_simsiam_loss(p1, z2, k1, relative_to_uniform=False)
        return one + powerspherical_ext.vi_simsiam_loss(p2, z1, k2, relative_to_uniform=False)

    return {
        "log_prob": lambda x, loc, kappa: family(loc, kappa, validate_args=False).log_prob(x),
        "rsample": lambda loc, kappa: family(loc, kappa, validate_args=False).rsample(),
        "loss": loss,
    }


def _ours_without_class(case: Case) -> Functions:
    return {"log_prob": lambda x, loc, kappa: ops.log_prob(x, loc, kappa, case.family_index)}


def _reference(case: Case) -> Functions:
    return {case.quantity: function(case)}


def _power_spherical(case: Case) -> Functions:
    from power_spherical import PowerSpherical

    def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        return PowerSpherical(loc, kappa, validate_args=False).log_prob(x)

    def rsample(loc: Tensor, kappa: Tensor) -> Tensor:
        return PowerSpherical(loc, kappa, validate_args=False).rsample()

    return {"log_prob": log_prob, "rsample": rsample, "loss": pair_loss(log_prob)}


def _scipy(case: Case) -> Functions:
    """Nothing there is Power Spherical: what one writes with scipy.special and numpy.random."""
    import numpy as np
    from scipy.special import gammaln

    rng, b = np.random.default_rng(0), (case.d - 1) / 2

    def log_prob(x: Any, loc: Any, kappa: Any) -> Any:
        kappa = kappa.astype(np.float64)
        a, t = b + kappa, np.einsum("nd,nd->n", x, loc)
        peak = gammaln(a + b) - gammaln(a) - b * np.log(4 * np.pi)
        return peak + kappa * np.log1p((t - 1) / 2)

    def rsample(loc: Any, kappa: Any) -> Any:
        t = (2 * rng.beta(b + kappa, b) - 1).astype(loc.dtype)[:, None]
        v = rng.standard_normal(loc.shape, loc.dtype)
        v -= np.einsum("nd,nd->n", v, loc)[:, None] * loc
        return t * loc + np.sqrt(1 - t * t) * v / np.linalg.norm(v, axis=-1, keepdims=True)

    return {"log_prob": log_prob, "rsample": rsample}


def _tfp_jax(case: Case) -> Functions:
    from tensorflow_probability.substrates.jax.distributions import PowerSpherical

    return {
        "log_prob": lambda x, loc, kappa, key: PowerSpherical(loc, kappa).log_prob(x),
        "rsample": lambda loc, kappa, key: PowerSpherical(loc, kappa).sample(seed=key),
    }


def _one_torch_op(case: Case) -> Functions:
    """The least that a call costs, and what the normals of a sample alone cost in torch."""
    return {
        "log_prob": lambda x, loc, kappa: torch.add(x, loc),
        "rsample": lambda loc, kappa: torch.randn_like(loc),
    }


LARGEST = (SIZES[-1], LARGE)

# "ours" comes first: ratios are to it. NumPyro has no Power Spherical.
PEERS = (
    Peer("ours", _ours, families=("PowerSpherical", "VonMisesFisher")),
    Peer("ours, op only", _ours_without_class, only=((8, 16),)),
    Peer("plain torch", _reference, families=("PowerSpherical", "VonMisesFisher")),
    Peer("plain torch, compiled", _reference, compiles=True, only=LARGEST),
    Peer("power-spherical", _power_spherical, needs="power_spherical"),
    Peer(
        "power-spherical, compiled",
        _power_spherical,
        needs="power_spherical",
        compiles=True,
        only=LARGEST,
    ),
    Peer("NumPy/SciPy", _scipy, runner="numpy", needs="scipy.special", backward=False),
    Peer("TFP on JAX", _tfp_jax, runner="jax", needs="tensorflow_probability.substrates.jax"),
    Peer("one torch op", _one_torch_op, part=True, backward=False),
)
OURS = PEERS[0]

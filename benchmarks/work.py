"""The work that is timed: its seeded inputs, the check of a result, and the least memory traffic.

A `Case` is one row to fill for every peer. The truth is the plain-torch reference in float64, on
the first rows. Samples differ between peers, and are compared with the moments of their
distribution.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from memory import FRESH, GLIBC_MAPS, REUSED
from torch import Tensor

import powerspherical_ext
from powerspherical_ext import families, reference
from powerspherical_ext.families import Family

ROWS_CHECKED = 512
# A right sampler fails with probability below 1e-8 per moment. Small batches are drawn repeatedly.
SIGMAS, SAMPLES_CHECKED, MOST_DRAWS, MOST_ELEMENTS = 6, 20_000, 20, 4 << 20
# Of the largest entry. JSON has the error itself.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 1e-2}
OFF_SPHERE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 1e-2}


# The families, by the name of their class: PowerSpherical for "power_spherical".
FAMILIES: dict[str, Family] = {
    family.name.title().replace("_", ""): family for family in families.FAMILIES
}


@dataclass(frozen=True)
class Quantity:
    arguments: tuple[str, ...]
    differentiated: tuple[int, ...]  # places in `arguments` whose gradient the backward pass gives
    # Numbers of tensors of n x d, and of n, that any implementation must read and write: forward,
    # and backward.
    reads: tuple[tuple[int, int], tuple[int, int]]
    writes: tuple[tuple[int, int], tuple[int, int]]


_LOG_PROB = ("x", "loc", "kappa")
QUANTITIES = {
    # Reads x, loc and kappa; then again, with the upstream gradient.
    "log_prob": Quantity(_LOG_PROB, (1, 2), reads=((2, 1), (2, 2)), writes=((0, 1), (1, 1))),
    # The op without a distribution around it, whose time is that of the sums over the rows; and the
    # default, which checks the parameters and x. Forward alone.
    "raw log_prob": Quantity(_LOG_PROB, (), reads=((2, 1), (0, 0)), writes=((0, 1), (0, 0))),
    "validated log_prob": Quantity(_LOG_PROB, (), reads=((2, 1), (0, 0)), writes=((0, 1), (0, 0))),
    # The same loc and kappa for every x.
    "log_prob of one law": Quantity(
        _LOG_PROB, (1, 2), reads=((1, 0), (1, 1)), writes=((0, 1), (0, 0))
    ),
    # Reads loc and kappa; then the upstream gradient, the sample, loc and kappa.
    "rsample": Quantity(("loc", "kappa"), (0, 1), reads=((1, 1), (3, 1)), writes=((1, 0), (1, 1))),
    # Two views, two directions: pred and target of both; their gradients fit into the same pass.
    "loss": Quantity(
        ("p1", "p2", "z1", "z2", "kappa1", "kappa2"),
        (0, 1, 4, 5),
        reads=((4, 2), (0, 0)),
        writes=((0, 0), (2, 2)),
    ),
}


@dataclass(frozen=True)
class Case:
    quantity: str
    backward: bool
    n: int
    d: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    family: str = "PowerSpherical"  # a key of FAMILIES
    threads: int = 0  # of torch; 0: its own choice
    other_memory: bool = False  # not that which glibc chooses by itself

    @property
    def work(self) -> str:
        return f"{self.quantity} {'forward + backward' if self.backward else 'forward'}"

    def __str__(self) -> str:
        name = f"{self.family}-{self.work}-{self.n}x{self.d}-{self.dtype_name}"
        name += f"-{self.threads}_threads" * bool(self.threads)
        return name + f"-{self.memory}_memory" * self.other_memory

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def memory(self) -> str:
        """Of a result of n x d; a process gets fresh memory for large ones by default."""
        large = self.n * self.d * self.dtype.itemsize >= GLIBC_MAPS
        return FRESH if large != self.other_memory else REUSED

    @property
    def reads(self) -> list[int]:
        """Bytes: of the forward pass, and of the backward pass if there is one."""
        return self._bytes(QUANTITIES[self.quantity].reads)

    @property
    def writes(self) -> list[int]:
        return self._bytes(QUANTITIES[self.quantity].writes)

    def _bytes(self, tensors: Sequence[tuple[int, int]]) -> list[int]:
        size = self.n * self.dtype.itemsize
        return [(of_nd * self.d + of_n) * size for of_nd, of_n in tensors[: 1 + self.backward]]

    @property
    def bytes_moved(self) -> int:
        return sum(self.reads) + sum(self.writes)

    @property
    def wanted(self) -> tuple[int, ...]:
        return QUANTITIES[self.quantity].differentiated if self.backward else ()

    def described(self) -> dict[str, Any]:
        """What every row of results says of the case, as it runs now."""
        return {
            "work": self.work,
            "n": self.n,
            "d": self.d,
            "family": self.family,
            "dtype": self.dtype_name,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }

    @property
    def declared_family(self) -> Family:
        return FAMILIES[self.family]


@functools.lru_cache(maxsize=1)  # the peers of a case follow one another
def inputs(case: Case) -> tuple[tuple[Tensor, ...], Tensor]:
    """The arguments, and an upstream gradient that is dense, as in a step of a real model."""
    rng = torch.Generator(case.device).manual_seed(0)
    n, d = case.n, case.d
    options = {"generator": rng, "dtype": case.dtype, "device": case.device}

    def normal() -> Tensor:
        return torch.randn(n, d, **options)

    def kappa() -> Tensor:  # mean cosines from about 0.2 to 0.5
        law, quantile = case.declared_family, torch.rand(n, **options)
        if law.is_bounded:
            return law.upper_bound * (0.1 + 0.2 * quantile)
        return d * (0.25 + 0.75 * quantile)

    if case.quantity == "loss":
        p1, p2 = normal(), normal()
        z1, z2 = (torch.add(p, normal()) for p in (p1, p2))
        return (p1, p2, z1, z2, kappa(), kappa()), p1.new_ones(())
    loc = F.normalize(normal(), dim=-1)
    if case.quantity == "rsample":
        return (loc, kappa()), normal()
    if case.quantity == "log_prob of one law":
        loc = loc[0].clone()
    x = F.normalize(loc + F.normalize(normal(), dim=-1), dim=-1)
    of_rows = kappa()
    # Densities of half precision come out in float32, and so does the upstream gradient.
    upstream = torch.rand(n, **options).to(powerspherical_ext.ops.common_dtype(x))
    return (x, loc, of_rows[0] if loc.dim() == 1 else of_rows), upstream


def function(case: Case) -> Callable[..., Tensor]:
    """The quantity as the plain-torch reference computes it."""
    family = case.declared_family.reference

    def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        return reference.log_prob(x, loc, kappa, family)

    def rsample(loc: Tensor, kappa: Tensor) -> Tensor:
        rng_state = powerspherical_ext.ops.new_rng_state(loc.device)
        return reference.rsample(loc, kappa, rng_state, family)

    if case.quantity == "loss":
        return pair_loss(log_prob)
    return rsample if case.quantity == "rsample" else log_prob


def pair_loss(log_prob: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Algorithm 1 of Nakamura et al. composed from torch operations around a log-density."""

    def loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
        p1, p2, z1, z2 = (F.normalize(v, dim=-1) for v in (p1, p2, z1, z2))
        return -(log_prob(z2, p1, k1).mean() + log_prob(z1, p2, k2).mean())

    return loss


def check(case: Case, results: Sequence[Sequence[Tensor]]) -> float:
    """The error of a peer's (value, *gradients); raises AssertionError where it is wrong.

    Samplers give several results, of independent draws; of other quantities the first is looked at.
    """
    results = [[r.detach().to(torch.float64) for r in result] for result in results]
    assert all(len(r) == 1 + len(case.wanted) for r in results), "one gradient for each argument"
    if case.quantity == "rsample":
        assert all(bool(r.isfinite().all()) for result in results for r in result), "not finite"
        return _check_samples(case, [torch.stack(r) for r in zip(*results, strict=True)])
    error = 0.0
    for mine, truth in zip(_shown(case, results[0]), _truth(case), strict=True):
        assert mine.shape == truth.shape, f"shape {tuple(mine.shape)}, not {tuple(truth.shape)}"
        assert bool(mine.isfinite().all()), "not finite"
        error = max(error, float((mine - truth).abs().max() / truth.abs().max()))
    assert error <= TOLERANCE[case.dtype], f"relative error {error:.2g}"
    return error


def draws(case: Case) -> int:
    """How many results `check` wants."""
    if case.quantity != "rsample":
        return 1
    return max(1, min(SAMPLES_CHECKED // case.n, MOST_ELEMENTS // (case.n * case.d), MOST_DRAWS))


@functools.lru_cache(maxsize=1)
def _truth(case: Case) -> list[Tensor]:
    arguments, upstream = inputs(case)
    if case.quantity.endswith("log_prob"):  # rows do not depend on one another
        arguments, upstream = tuple(v[:ROWS_CHECKED] for v in arguments), upstream[:ROWS_CHECKED]
    arguments = tuple(v.double().requires_grad_(i in case.wanted) for i, v in enumerate(arguments))
    value = function(case)(*arguments)
    leaves = [arguments[i] for i in case.wanted]
    grads = torch.autograd.grad(value, leaves, upstream.double()) if leaves else ()
    return _shown(case, [value.detach(), *grads])


def _shown(case: Case, result: Sequence[Tensor]) -> list[Tensor]:
    """What implementations must agree on: of log_prob's gradient in loc, the tangential part."""
    shown = list(result)
    if case.quantity.endswith("log_prob"):
        shown = [r[:ROWS_CHECKED] for r in result]
    if case.backward and case.quantity != "loss":
        loc = inputs(case)[0][1].double()
        shown[1] = _tangential(shown[1], loc[:ROWS_CHECKED] if loc.dim() == 2 else loc)
    return shown


def _tangential(vector: Tensor, loc: Tensor) -> Tensor:
    return vector - (vector * loc).sum(-1, keepdim=True) * loc


def _check_samples(case: Case, result: Sequence[Tensor]) -> float:
    """Length one; E[t] = A(kappa); the mean gradients A'(kappa) (G . loc) and A(kappa) P G.

    These are multiplied by G . loc and G, for their mean over rows not to vanish whatever their
    size. The error returned is the largest deviation of a moment, in standard errors.
    """
    (loc, kappa), upstream = inputs(case)
    loc, kappa, upstream = loc.double(), kappa.double(), upstream.double()
    law = case.declared_family.reference
    sample, *grads = result  # (draws, n, d), (draws, n, d), (draws, n)
    assert sample.shape[1:] == loc.shape
    length_error = float((sample.norm(dim=-1) - 1).abs().max())
    assert length_error < OFF_SPHERE[case.dtype], f"off the sphere by {length_error:.2g}"
    resultant = law.mean_resultant_length(kappa, case.d)
    excess = {"mean cosine": (sample * loc).sum(-1) - resultant}
    if grads:
        along, across = (upstream * loc).sum(-1), _tangential(upstream, loc)
        slope = law.mean_resultant_length_dkappa(kappa, case.d)
        excess["gradient in kappa"] = (grads[1] - slope * along) * along
        moved = (_tangential(grads[0], loc) * across).sum(-1)
        excess["gradient in loc"] = moved - resultant * across.square().sum(-1)
    sigmas = {k: float(e.mean().abs() / (e.std() / e.numel() ** 0.5)) for k, e in excess.items()}
    worst = max(sigmas, key=sigmas.__getitem__)
    # Few rows have no central limit.
    assert sigmas[worst] < SIGMAS or sample[..., 0].numel() < 100, (
        f"{worst} {sigmas[worst]:.0f} standard errors off"
    )
    return sigmas[worst]

"""THE table of distributions under test, and the truth about each of them.

A new public distribution is one more row of FAMILIES (distributions/test_contract.py fails until
it is there): how to build it, its density and moments in mpmath, the law of its y = (1 - t)/2 in
numpy.
Nothing here is computed by the package.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import ldexp
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from mpmath import mp, mpf
from scipy.integrate import cumulative_simpson
from tables.bessel import log_0f1
from torch import Tensor
from torch.distributions import Distribution

from powerspherical_ext import (
    HypersphericalUniform,
    PowerSpherical,
    SphericalCauchy,
    VonMisesFisher,
    _kernels,
    _library,
)
from powerspherical_ext.families import Family as DeclaredFamily

mp.dps = 50


@dataclass(frozen=True)
class Family:
    """A row of the table. y = (1 - t)/2, t = mu . x; kappa is always 0 for the uniform."""

    distribution: type[Distribution]
    kappas: tuple[float, ...]  # where it is tested, ascending
    make: Callable[..., Any]  # (loc, kappa, **options) -> the distribution
    log_normalizer: Callable[[int, mpf], mpf]  # (d, kappa) -> log C
    log_density: Callable[[int, mpf, mpf], mpf]  # (d, kappa, y) -> log p - log C
    moments: Callable[[int, mpf], tuple[mpf, mpf]]  # (d, kappa) -> E[t], E[t^2]
    cdf: Callable[[np.ndarray, int, float], np.ndarray]  # (y, d, kappa) -> P(Y <= y)

    def __str__(self) -> str:
        return self.distribution.__name__

    @property
    def declared(self) -> DeclaredFamily:
        """Its entry in the package's list, which the ops call `family`."""
        return self.distribution._family

    @property
    def index(self) -> int:
        """What the raw ops call `family`."""
        return self.declared.index

    def at(self, kappa: Any) -> Any:
        """The concentration that stands for ``kappa`` >= 0, a number or a tensor, in this family.

        It is kappa itself where the family does not bound the concentration. In a domain
        [0, bound) it is bound kappa/(1 + kappa), and at most the largest number of the tensor's
        dtype below the bound.
        """
        return concentration_at(self.declared, kappa)


def concentration_at(declared: DeclaredFamily, kappa: Any) -> Any:
    """`Family.at` for an entry of the package's list."""
    if not declared.is_bounded:
        return kappa
    bound = declared.upper_bound
    if not isinstance(kappa, Tensor):
        return bound * kappa / (1 + kappa)
    below = torch.nextafter(
        torch.tensor(bound, dtype=kappa.dtype), torch.tensor(0.0).to(kappa.dtype)
    )
    return (bound * (kappa / (1 + kappa))).clamp(max=float(below))


def _power_spherical_log_normalizer(d, kappa):
    beta = mpf(d - 1) / 2
    alpha = beta + kappa
    s = alpha + beta
    lgamma = mpmath.loggamma
    return -(s * mpmath.log(2) + beta * mpmath.log(mpmath.pi) + lgamma(alpha) - lgamma(s))


def _power_spherical_log_density(d, kappa, y):
    if y >= 1:
        return mpf(0) if kappa == 0 else mpf("-inf")
    return kappa * mpmath.log(2 * (1 - y))


def _power_spherical_moments(d, kappa):
    s = d - 1 + kappa
    return kappa / s, 1 - (d - 1) * (kappa + s) / (s * (s + 1))


POWER_SPHERICAL = Family(
    PowerSpherical,
    (0.0, 1e-3, 1.0, 100.0, 1e4, 1e6, 1e7),
    PowerSpherical,
    _power_spherical_log_normalizer,
    _power_spherical_log_density,
    _power_spherical_moments,
    lambda y, d, kappa: scipy.stats.beta.cdf(y, (d - 1) / 2, (d - 1) / 2 + kappa),
)


def _log_area(d):
    return mpmath.log(2) + mpf(d) / 2 * mpmath.log(mpmath.pi) - mpmath.loggamma(mpf(d) / 2)


def _von_mises_fisher_moments(d, kappa):
    if kappa == 0:
        return mpf(0), 1 / mpf(d)
    v, kappa = mpf(d) / 2 - 1, mpf(kappa)
    length = kappa / d * mpmath.exp(log_0f1(v + 1, kappa) - log_0f1(v, kappa))
    return length, 1 - (d - 1) * length / kappa


@functools.cache
def _von_mises_fisher_distribution(d, kappa):
    """Nodes l = log(y/(1-y)) and P(Y <= y) there, by Simpson's rule in l; error below 1e-5, most of
    it that of linear interpolation between the nodes."""
    b = (d - 1) / 2
    mode = np.log(b) - np.log(kappa + np.hypot(b, kappa))
    reach = min(40 / b, 12 / b**0.5) + 8 * b**-0.5
    l = mode + np.linspace(-reach, reach, 20_001)  # noqa: E741
    z = 1 / (1 + np.exp(l))
    log_density = b * (l + 2 * np.log(z)) - 2 * kappa * (1 - z)
    sums = cumulative_simpson(np.exp(log_density - log_density.max()), x=l, initial=0)
    return l, sums / sums[-1]


def _von_mises_fisher_cdf(y, d, kappa):
    nodes, values = _von_mises_fisher_distribution(d, kappa)
    with np.errstate(divide="ignore"):
        return np.interp(np.log(y) - np.log1p(-y), nodes, values)


VON_MISES_FISHER = Family(
    VonMisesFisher,
    POWER_SPHERICAL.kappas,
    VonMisesFisher,
    lambda d, kappa: -_log_area(d) - log_0f1(mpf(d) / 2 - 1, mpf(kappa)),
    lambda d, kappa, y: kappa * (1 - 2 * y),
    _von_mises_fisher_moments,
    _von_mises_fisher_cdf,
)


def _spherical_cauchy_moments(d, rho):
    if rho == 0:
        return mpf(0), 1 / mpf(d)
    rho = mpf(rho)
    s = 2 * rho / (1 + rho**2)
    length = (d - 1) * s / d * mpmath.hyp2f1(mpf(1) / 2, 1, 1 + mpf(d) / 2, s**2)
    return length, 1 - (d - 1) * (1 - length / s)


def _spherical_cauchy_cdf(y, d, rho):
    """A Moebius map carries a uniform point to a sample, and multiplies y/(1 - y) by a constant."""
    far, near = (1 + rho) ** 2 * y, (1 - rho) ** 2 * (1 - y)
    share = np.asarray(far / (far + near), np.float64)  # of the uniform point
    return scipy.special.betainc((d - 1) / 2, (d - 1) / 2, share)


SPHERICAL_CAUCHY = Family(
    SphericalCauchy,
    (0.0, 1e-3, 0.25, 0.75, 0.96875, 1 - 2**-10, 1 - 2**-20),
    SphericalCauchy,
    lambda d, rho: (d - 1) * mpmath.log1p(-(mpf(rho) ** 2)) - _log_area(d),
    lambda d, rho, y: (1 - d) * mpmath.log((1 - rho) ** 2 + 4 * rho * y),
    _spherical_cauchy_moments,
    _spherical_cauchy_cdf,
)


def _make_uniform(loc, kappa, **options):
    kappa_shape = getattr(kappa, "shape", ())
    batch_shape = torch.broadcast_shapes(loc.shape[:-1], kappa_shape)
    return HypersphericalUniform(
        loc.shape[-1], loc.device, loc.dtype, batch_shape=batch_shape, **options
    )


UNIFORM = Family(
    HypersphericalUniform,
    (0.0,),
    _make_uniform,
    lambda d, kappa: -_log_area(d),
    lambda d, kappa, y: mpf(0),
    lambda d, kappa: (mpf(0), 1 / mpf(d)),
    lambda y, d, kappa: scipy.stats.beta.cdf(y, (d - 1) / 2, (d - 1) / 2),
)

FAMILIES = (POWER_SPHERICAL, VON_MISES_FISHER, SPHERICAL_CAUCHY, UNIFORM)
CONCENTRATED = tuple(family for family in FAMILIES if len(family.kappas) > 1)  # have a loc


# Ways to batch: the shapes of loc, without d, and of the concentration (None: a Python number).
BATCHES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "single": ((), ()),
    "number": ((3,), None),
    "one_kappa": ((2, 3), ()),
    "one_loc": ((), (4,)),
    "outer": ((3, 1), (2,)),
    "size_one": ((1,), (1,)),
    "empty": ((0,), ()),
}


@dataclass(frozen=True)
class Case:
    """One parametrisation of a family, as the generic tests take it."""

    family: Family
    d: int = 3
    kappa: float = 0.0
    batch: str = "one_kappa"
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.family}-{self.d}-{self.kappa:g}-{self.batch}-{dtype}"

    def parameters(self) -> tuple[Tensor, Tensor | float]:
        loc_shape, kappa_shape = BATCHES[self.batch]
        loc = unit(*loc_shape, self.d, dtype=self.dtype)
        if kappa_shape is None:
            return loc, self.kappa
        spread = torch.linspace(1, 0.5, max(int(np.prod(kappa_shape)), 1), dtype=torch.float64)
        kappa = (self.kappa * spread).to(self.dtype)
        if self.family in CONCENTRATED:  # half precision may round it to the end of the domain
            end = torch.tensor(self.family.declared.upper_bound, dtype=self.dtype)
            kappa = kappa.minimum(torch.nextafter(end, torch.zeros_like(end)))
        return loc, kappa.reshape(kappa_shape)

    def make(self, **options: Any) -> Any:
        return self.family.make(*self.parameters(), **options)

    def uniform(self) -> HypersphericalUniform:
        """On the same sphere, without a batch."""
        return HypersphericalUniform(self.d, dtype=self.dtype)

    @property
    def batch_shape(self) -> torch.Size:
        loc_shape, kappa_shape = BATCHES[self.batch]
        return torch.broadcast_shapes(loc_shape, kappa_shape or ())


def _cases():
    for family in FAMILIES:
        middle = family.kappas[len(family.kappas) // 2]
        for batch in BATCHES:
            yield Case(family, 3, middle, batch)
        for d in (2, 8, 64):
            for kappa in dict.fromkeys((family.kappas[0], middle, family.kappas[-1])):
                yield Case(family, d, kappa, dtype=torch.float64 if d == 8 else torch.float32)
        for dtype in (torch.float64, torch.float16, torch.bfloat16):
            yield Case(family, 8, middle, dtype=dtype)


CASES = tuple(_cases())
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
each_concentrated = pytest.mark.parametrize("family", CONCENTRATED, ids=str)
each_float = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)

needs_kernels = pytest.mark.skipif(not _library.CPU_KERNELS, reason="no compiled CPU kernels")
ignores_warnings_of_torch = pytest.mark.filterwarnings(  # within torch.func and torch._dynamo
    "ignore:.*torch.jit.script:DeprecationWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
)


def without_kernels(monkeypatch):
    """From here on, every op takes the plain-torch path."""
    monkeypatch.setattr(_kernels, "CPU_KERNELS", False)
    monkeypatch.setattr(_kernels, "CUDA_KERNELS", False)


@pytest.fixture(params=[pytest.param("kernels", marks=needs_kernels), "reference"])
def path(request, monkeypatch):
    """Runs a test on the compiled kernels and on the plain-torch path."""
    if request.param == "reference":
        without_kernels(monkeypatch)
    return request.param


def close(actual: Any, expected: Any, **tolerances: Any) -> None:
    torch.testing.assert_close(actual, expected, **tolerances)


def unit(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Random unit vectors, the same at every call, rounded to dtype."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1).to(dtype)


def at_distance(mu: Tensor, y: Tensor, z: Tensor | None = None, seed: int = 1) -> Tensor:
    """Unit vectors x (..., d) in float64 with (1 - mu . x)/2 = y (...): x = (z - y) mu + 2 r v.

    z = 1 - y is given where 1 - y would cancel; r^2 = y z, v is orthogonal to mu.
    """
    z = 1 - y if z is None else z
    mu = torch.nn.functional.normalize(mu.double(), dim=-1).expand(*y.shape, mu.shape[-1])
    v = unit(*y.shape, mu.shape[-1], seed=seed)
    for _ in range(2):
        v = v - (v * mu).sum(-1, keepdim=True) * mu
    v = torch.nn.functional.normalize(v, dim=-1)
    return (z - y).unsqueeze(-1) * mu + 2 * (y * z).sqrt().unsqueeze(-1) * v


def chord(value: Tensor, mu: Tensor) -> Tensor:
    """y in float64, for statistics: sums of squares lose nothing near the mean direction."""
    minus = (value.double() - mu.double()).square().sum(-1)
    return minus / (minus + (value.double() + mu.double()).square().sum(-1))


def exact_y(value: Tensor, mu: Tensor) -> mpf:
    """y of value/|value| and mu/|mu| for one pair of vectors (d,), from integer dot products."""
    x, m = ([int(ldexp(v, 120)) for v in vector.double().tolist()] for vector in (value, mu))
    xm, xx, mm = (sum(map(operator.mul, a, b)) for a, b in ((x, m), (x, x), (m, m)))
    t = xm / mpmath.sqrt(mpf(xx) * mm)
    return mpf(1) if 1 + t < mpf(10) ** -40 else (1 - t) / 2


def exact_log_prob(family: Family, value: Tensor, mu: Tensor, kappa: float) -> mpf:
    """log p for one pair of vectors, as they are in their dtype."""
    d, kappa = len(mu), mpf(kappa)
    y = exact_y(value, mu)
    return cached_log_normalizer(family, d, float(kappa)) + family.log_density(d, kappa, y)


@functools.cache
def cached_log_normalizer(family: Family, d: int, kappa: float) -> mpf:
    return family.log_normalizer(d, mpf(kappa))


def quadrature(
    family: Family, d: int, kappa: float, step: float = 0.25
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes l = log(y/(1-y)) and log weights: sum exp(log weight + log p(y)) g(y) = E[g(Y)].

    The trapezoidal rule in l, in which the law of y is 2 pi^b / Gamma(b) 2^(d-2) p (y (1-y))^b dl,
    b = (d-1)/2: smooth, with exponential tails exp(-b |l|) or faster, so that the rule converges
    geometrically. Nodes surround the mean of y.
    """
    b = (d - 1) / 2
    spread = min(1.0, (1 / b + 1 / (b + kappa)) ** 0.5)
    mean = family.moments(d, mpf(kappa))[0]
    centre = float(mpmath.log1p(-mean) - mpmath.log1p(mean))
    reach = 16 + 40 * max(1.0, 1 / b)  # exp(-b reach) < 1e-17
    left = np.arange(0, reach if b < 20 else 14 * spread, step * spread)
    l = centre + np.concatenate([-left[:0:-1], left])  # noqa: E741
    log_area = float(mpmath.log(2 * mpmath.pi**b / mpmath.gamma(b)))
    log_yz = -np.abs(l) - 2 * np.log1p(np.exp(-np.abs(l)))
    return l, np.log(step * spread) + log_area + (d - 2) * np.log(2) + b * log_yz


@functools.cache
def exact_entropy(family: Family, d: int, kappa: float) -> float:
    """-E[log p] by quadrature of the density in mpmath; its error is below 1e-12."""
    return float(-exact_mean(family, d, kappa, lambda y, log_p: log_p))


def exact_mean(
    family: Family, d: int, kappa: float, g: Callable[[mpf, mpf], mpf], step: float = 0.25
) -> mpf:
    """E[g(y, log p)] by quadrature."""
    log_c = cached_log_normalizer(family, d, kappa)
    total = mpf(0)
    for node, log_weight in zip(*quadrature(family, d, kappa, step), strict=True):
        y = 1 / (1 + mpmath.exp(-mpf(node)))
        log_p = log_c + family.log_density(d, mpf(kappa), y)
        total += mpmath.exp(log_p + log_weight) * g(y, log_p)
    return total


def ulps(actual: float, expected: mpf, dtype: torch.dtype, scale: mpf | None = None) -> float:
    """|actual - expected| in units in the last place of max(|scale|, 1); scale is the expected."""
    if mpmath.isinf(expected):
        return 0.0 if actual == float(expected) else float("inf")
    size = max(abs(float(expected if scale is None else scale)), 1.0)
    spacing = torch.finfo(dtype).eps * 2.0 ** np.floor(np.log2(size))
    return float(abs(mpf(actual) - expected) / spacing)

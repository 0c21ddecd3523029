"""log_prob against mpmath at 50 digits, at points from the mean direction to its antipode."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.optimize
import torch
from cases import (
    CONCENTRATED,
    FAMILIES,
    POWER_SPHERICAL,
    at_distance,
    cached_log_normalizer,
    each_concentrated,
    each_family,
    each_float,
    exact_log_prob,
    exact_y,
    path,
    quadrature,
    ulps,
    unit,
)

from powerspherical_ext import reference

pytestmark = pytest.mark.usefixtures(path.__name__)

DIMENSIONS = (2, 3, 8, 64, 512, 2048)
BOUND = {  # in ulp
    ("kernels", torch.float32): 1,
    ("reference", torch.float32): 8,
    ("kernels", torch.float64): 8,
    ("reference", torch.float64): 8,
}


def scale(path, log_p, peak):
    """The kernels' errors are in ulp of max(|log p|, 1); those of plain torch, where log p =
    log p(mu) + log_prob_ratio cancels, in ulp of the largest of the three."""
    return abs(log_p) if path == "kernels" else max(abs(log_p), abs(peak), abs(log_p - peak))


def has_exponential_form(family):
    return family in CONCENTRATED and family.declared.exponential_form


def typical_y(family, d, kappa):
    """A y in the bulk of the law: the mean of Power Spherical for the exponential families, and the
    median for others, whose mean may lie far in the tail."""
    if kappa == 0 or has_exponential_form(family):
        return (d - 1) / 2 / (d - 1 + kappa)

    def excess(log_y):
        return family.cdf(np.exp(log_y), d, kappa) - 0.5

    return math.exp(scipy.optimize.brentq(excess, -60.0, 0.0))


@each_family
@each_float
@pytest.mark.parametrize(
    "d", [*DIMENSIONS[:-1], pytest.param(DIMENSIONS[-1], marks=pytest.mark.slow)]
)
def test_accuracy(family, dtype, d, path):
    """From the mode through the bulk of the law to the antipode."""
    for mu in (unit(d, dtype=dtype), torch.eye(d, dtype=dtype)[0]):
        for kappa in family.kappas:
            bulk = typical_y(family, d, kappa)
            y = [1e-12, bulk / 10, bulk, min(2 * bulk, 0.6), 0.1, 0.3, 0.5, 0.999, 1 - 1e-8]
            x = at_distance(mu, torch.tensor(y, dtype=torch.float64)).to(dtype)
            concentration = torch.tensor(kappa, dtype=dtype)
            actual = family.make(mu, concentration).log_prob(x)
            assert actual.dtype == dtype
            peak = exact_log_prob(family, mu, mu, concentration.item())
            for row, value in zip(x, actual.tolist(), strict=True):
                expected = exact_log_prob(family, row, mu, concentration.item())
                error = ulps(value, expected, dtype, scale(path, expected, peak))
                assert error <= BOUND[path, dtype], (kappa, mu[0], error)


@each_concentrated
@pytest.mark.parametrize("d", [2, 3, 8, 16, 64])
def test_accuracy_at_samples(family, d, path):
    """float32 against float64, itself tied to mpmath above, where y has its own law, in the same
    units: the kernels round once; 5.6 ulp is the most that float32 arithmetic came to in 1.8
    million draws."""
    quantile = torch.rand(4000, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
    mu = unit(d, dtype=torch.float32)
    for kappa in (*map(family.at, (1.0, 10.0, 100.0)), *family.kappas):
        start = -9
        while family.cdf(np.float64(10.0**start), d, kappa) > 0.2:
            start -= 1
        grid = torch.logspace(start, 0, 20_000, dtype=torch.float64)
        y = np.interp(quantile, family.cdf(grid.numpy(), d, kappa), grid)
        x = at_distance(mu, torch.from_numpy(y)).float()
        exact = family.make(mu.double(), torch.tensor(kappa).double(), validate_args=False)
        expected, peak = exact.log_prob(x.double()), exact.log_prob(mu.double())
        scale = torch.stack([expected, peak.expand_as(expected), expected - peak]).abs().amax(0)
        if path == "kernels":
            scale = expected.abs()
        ulp = 2.0 ** (scale.clamp(min=1).log2().floor() - 23)
        error = (family.make(mu, torch.tensor(kappa)).log_prob(x).double() - expected).abs() / ulp
        assert error.max() <= (1 if path == "kernels" else 6), kappa


@each_concentrated
@each_float
def test_accuracy_where_the_terms_cancel(family, dtype, path):
    """Random d and kappa, with y from the bulk of the law where |log p| < 2: the sum of two terms
    of size up to 500."""
    rng, found, error = np.random.default_rng(0), 0, 0.0
    while found < 100:
        d = int(np.exp(rng.uniform(np.log(2), np.log(300))))
        kappa = family.at(np.exp(rng.uniform(-2, 8)))
        mu = unit(d, dtype=dtype, seed=int(rng.integers(2**31)))
        y = torch.tensor(typical_y(family, d, kappa) * np.exp(rng.normal(0, 0.5)))
        x = at_distance(mu, y.clamp(max=0.99), seed=int(rng.integers(2**31))).to(dtype)
        concentration = torch.tensor(kappa, dtype=dtype)
        actual = family.make(mu, concentration, validate_args=False).log_prob(x).item()
        if abs(actual) < 2:
            found += 1
            expected = exact_log_prob(family, x, mu, concentration.item())
            peak = exact_log_prob(family, mu, mu, concentration.item())
            error = max(error, ulps(actual, expected, dtype, scale(path, expected, peak)))
    # docs/numerics.md: just before float64 rows are done again, more is lost than anywhere else.
    assert error <= (16 if (path, dtype) == ("kernels", torch.float64) else BOUND[path, dtype])


@each_concentrated
def test_accuracy_where_large_terms_cancel(family, path):
    """log p near 0 is the sum of two terms of several thousands, each a sum of 2048 itself."""
    d, kappa = 2048, family.at(1e4)
    mu = unit(d)

    def log_p(y):
        log_normalizer = cached_log_normalizer(family, d, kappa)
        return float(log_normalizer + family.log_density(d, mpmath.mpf(kappa), mpmath.mpf(y)))

    y = scipy.optimize.brentq(log_p, 1e-9, 0.9)
    law = family.make(mu, torch.tensor(kappa, dtype=mu.dtype), validate_args=False)
    peak = exact_log_prob(family, mu, mu, kappa)
    for seed in range(1, 9):
        x = at_distance(mu, torch.tensor(y * (1 + 1e-5 * (seed - 4))), seed=seed)
        expected = exact_log_prob(family, x, mu, kappa)
        error = ulps(law.log_prob(x).item(), expected, x.dtype, scale(path, expected, peak))
        assert error <= BOUND[path, x.dtype]


NEAR_A_POLE = (1.98, 1.9, 1.5, 1.0, 0.5)  # eps to these powers is y


@each_float
@pytest.mark.parametrize("d", [2, 3, 16, 512])
def test_half_angle_of_plain_torch_near_the_poles(dtype, d):
    """That of the directions, of vectors whose lengths are 1 but for one rounding, or for 100."""
    mu, eps = unit(d, dtype=dtype), torch.finfo(dtype).eps
    for power, length in itertools.product(NEAR_A_POLE, (1, 1 + 100 * eps)):
        x = length * at_distance(mu, torch.tensor(eps**power).double()).to(dtype)
        for value in (x, -x):
            sin2, cos2 = reference.half_angle(value, mu)
            for actual, direction in ((sin2, mu), (cos2, -mu)):
                expected = exact_y(value, direction)
                error = abs(mpmath.mpf(actual.item()) / expected - 1)
                assert error <= 8 * eps * (1 + (length - 1) ** 2 / (4 * expected)), power


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 3, 16, 512])
def test_accuracy_near_the_poles(family, dtype, d, path):
    """The lengths of x and mu, which rounding alone makes unequal, do not count at these angles."""
    mu, eps = unit(d, dtype=dtype), torch.finfo(dtype).eps
    lengths = (1, 1 + 100 * eps, 3) if path == "kernels" else (1,)
    for power, kappa in itertools.product(
        NEAR_A_POLE, torch.tensor(family.kappas, dtype=dtype).unbind()
    ):
        x = at_distance(mu, torch.tensor(eps**power).double()).to(dtype)
        peak = exact_log_prob(family, mu, mu, kappa.item())
        for value in (length * sign * x for length in lengths for sign in (1, -1)):
            actual = family.make(mu, kappa, validate_args=False).log_prob(value)
            expected = exact_log_prob(family, value, mu, kappa.item())
            error = ulps(actual.item(), expected, dtype, scale(path, expected, peak))
            assert error <= BOUND[path, dtype], (power, kappa)


@each_family
@each_float
def test_antipode(family, dtype):
    mu = unit(5, 4, dtype=dtype)
    for kappa in family.kappas:
        x = (-mu).requires_grad_()
        loc, concentration = mu.clone().requires_grad_(), torch.full((5,), kappa, dtype=dtype)
        p = family.make(loc, concentration.requires_grad_())
        log_p = p.log_prob(x)
        expected = float(exact_log_prob(family, x[0].detach(), mu[0], kappa))
        torch.testing.assert_close(log_p, torch.full_like(log_p, expected))
        assert (expected == -math.inf) == (family is POWER_SPHERICAL and kappa > 0)
        if log_p.requires_grad:
            log_p.sum().backward()
            rounding = 0 if expected == -math.inf else kappa * torch.finfo(dtype).eps
            assert x.grad.abs().max() <= rounding
            assert loc.grad.abs().max() <= rounding
            assert concentration.grad.isfinite().all()


@each_concentrated
@each_float
def test_near_the_antipode_nothing_overflows(family, dtype):
    """Down to the smallest distance that the dtype can express, for which power_spherical gives NaN
    in 20 % of all directions."""
    mu = unit(500, 16, dtype=dtype)
    noise = torch.finfo(dtype).eps * unit(500, 16, dtype=dtype, seed=2)
    for kappa in family.kappas:
        inputs = [
            (-mu + noise).requires_grad_(),
            mu.clone().requires_grad_(),
            torch.full((500,), kappa, dtype=dtype, requires_grad=True),
        ]
        log_p = family.make(*inputs[1:], validate_args=False).log_prob(inputs[0])
        assert not log_p.isnan().any()
        assert (log_p < 1e4).all()
        for grad in torch.autograd.grad(log_p.sum(), inputs):
            assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_concentrated
def test_half_precision_is_read_as_it_is(family, dtype):
    """At (2048, 850), where the exact value for these inputs is thousands of nats."""
    mu = unit(4, 2048, dtype=dtype)
    x = at_distance(mu, torch.full((4,), 0.35).double(), seed=3).to(dtype)
    kappa = family.at(torch.full((4,), 850.0, dtype=dtype))
    actual = family.make(mu, kappa).log_prob(x)
    assert actual.dtype == torch.float32
    for i in range(4):
        expected = exact_log_prob(family, x[i], mu[i], kappa[i].item())
        assert abs(actual[i].item() / float(expected) - 1) < 1e-6


@each_concentrated
@each_float
def test_symmetric_in_value_and_loc(family, dtype):
    for d in (2, 3, 64):
        x, mu = unit(20, d, dtype=dtype), unit(20, d, dtype=dtype, seed=5)
        for kappa in family.kappas:
            concentration = torch.tensor(kappa, dtype=dtype)
            one = family.make(mu, concentration).log_prob(x)
            other = family.make(x, concentration).log_prob(mu)
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@each_concentrated
@each_float
def test_without_concentration_it_is_the_uniform(family, dtype, path):
    for d in DIMENSIONS:
        mu = unit(3, d, dtype=dtype)
        for x in (mu, -mu, unit(3, d, dtype=dtype, seed=6)):
            actual = family.make(mu, 0.0).log_prob(x).tolist()
            expected = -mpmath.log(2) - d * mpmath.log(mpmath.pi) / 2
            expected += mpmath.loggamma(mpmath.mpf(d) / 2)
            assert max(ulps(value, expected, dtype) for value in actual) <= BOUND[path, dtype]


@pytest.mark.slow
@each_family
@pytest.mark.parametrize("d", [2, 3, 8, 64])
def test_integral_is_one(family, d):
    mu = unit(d)
    for kappa in family.kappas:
        nodes, log_weight = quadrature(family, d, kappa)
        y, z = (torch.from_numpy(1 / (1 + np.exp(sign * nodes))) for sign in (-1, 1))
        x = at_distance(mu, y, z)
        log_p = family.make(mu, torch.tensor(kappa).double()).log_prob(x)
        assert (log_p + torch.from_numpy(log_weight)).exp().sum().item() == pytest.approx(
            1, abs=1e-9
        )


@each_concentrated
@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("kappa", [1e3, 1e6, 1e7])
def test_large_concentration_in_small_dimension(family, d, kappa):
    """In float32 power_spherical is 0.2 nats off at (3, 1e6), 1.1 at (3, 1e7), 12 at (8, 1e7)."""
    mu = unit(d, dtype=torch.float32)
    concentration = family.at(torch.tensor(kappa))
    expected = exact_log_prob(family, mu, mu, concentration.item())
    actual = family.make(mu, concentration).log_prob(mu).item()
    assert ulps(actual, expected, torch.float32) <= 3


@each_concentrated
@pytest.mark.parametrize("lengths", [(1 - 1e-5, 1 + 1e-5), (0.4, 2.5), (1e-30, 1e30)])
def test_lengths_of_the_vectors_do_not_matter(family, lengths, path):
    """The density is that at value/|value| under loc/|loc|."""
    if path == "reference" and lengths[1] > 2:
        pytest.skip("plain torch loses digits where the lengths differ much")
    mu, kappa = unit(8), family.at(torch.tensor(1e4).double())
    x = at_distance(mu, torch.tensor([1e-4, 0.3], dtype=torch.float64))
    exact = family.make(mu, kappa, validate_args=False).log_prob(x)
    scaled = family.make(lengths[0] * mu, kappa, validate_args=False).log_prob(lengths[1] * x)
    torch.testing.assert_close(scaled, exact, rtol=1e-12, atol=0)


def test_every_family_is_tested_from_uniform_to_a_needle():
    for family in FAMILIES:
        assert family.kappas[0] == 0
        if family in CONCENTRATED:
            needle = family.kappas[-1]
            assert 1 - family.moments(3, mpmath.mpf(needle))[0] < 2e-7
            assert needle >= 1e7 or not family.declared.exponential_form

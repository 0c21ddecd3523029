"""Laws that hold at every point of the domain, at points that hypothesis chooses."""

from __future__ import annotations

import math

import pytest
import torch
from cases import CONCENTRATED, at_distance, each_concentrated, each_family, path, unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, ops

pytestmark = pytest.mark.usefixtures(path.__name__)

dimensions = st.integers(2, 64) | st.sampled_from([2, 3, 512])
concentrations = st.just(0.0) | st.floats(-4, 7).map(lambda e: 10.0**e)
seeds = st.integers(0, 2**32 - 1)
# The fixture only chooses the path, the same for all examples.
few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def close(actual, expected, rtol=0.0, atol=0.0):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def scalar(kappa):
    return torch.tensor(kappa, dtype=torch.float64)


def make(family, mu, kappa, **options):
    """With the concentration that stands for ``kappa``; the uniform distribution takes any."""
    return family.make(mu, family.at(kappa) if family in CONCENTRATED else kappa, **options)


def is_exponential(family):
    return family not in CONCENTRATED or family.declared.exponential_form


EXPONENTIAL = [family for family in CONCENTRATED if is_exponential(family)]


def rotation(d, seed):
    """A random rotation, as two reflections."""
    first, second = unit(2, d, seed=seed)

    def turn(x):
        for u in (first, second):
            x = x - 2 * (x @ u).unsqueeze(-1) * u
        return x

    return turn


@each_family
@given(dimensions, concentrations, st.floats(0, 1), seeds)
@few
def test_density_is_invariant_under_rotation(family, d, kappa, y, seed):
    mu, turn = unit(d, seed=seed), rotation(d, seed)
    x = at_distance(mu, scalar(y), seed=seed + 1)
    before = make(family, mu, scalar(kappa)).log_prob(x)
    after = make(family, turn(mu), scalar(kappa), validate_args=False).log_prob(turn(x))
    # y, or 1 - y if that is smaller, is known to about 1e-16 absolutely
    slope = kappa / max(1 - y, 1e-15) if is_exponential(family) else d * kappa
    assert before == after or slope > 1e12 or abs(before - after) <= 1e-14 * (d + slope + kappa)


@each_family
@given(dimensions, concentrations, seeds)
@few
def test_gradients_turn_with_the_sphere(family, d, kappa, seed):
    """log_prob's gradient in x at R x under R mu is R times that at x under mu."""
    mu, turn = unit(d, seed=seed), rotation(d, seed)
    x = at_distance(mu, scalar(0.3), seed=seed + 1)

    def gradient(x, mu):
        x = x.clone().requires_grad_()
        log_p = make(family, mu, scalar(kappa), validate_args=False).log_prob(x)
        return torch.autograd.grad(log_p, x)[0] if log_p.requires_grad else torch.zeros_like(x)

    size = kappa if is_exponential(family) else d * kappa
    close(gradient(turn(x), turn(mu)), turn(gradient(x, mu)), atol=1e-13 * (1 + size))


@each_family
@given(dimensions, concentrations, st.floats(0, 0.99), st.integers(1, 4), seeds)
@few
def test_batch_is_a_loop(family, d, kappa, y, n, seed):
    mu = unit(n, d, seed=seed)
    kappas = kappa * torch.linspace(1, 0.1, n, dtype=torch.float64)
    x = at_distance(mu, torch.full((n,), y, dtype=torch.float64), seed=seed + 1)
    p = make(family, mu, kappas)
    log_p, entropy, mean, variance = p.log_prob(x), p.entropy(), p.mean, p.variance
    for i in range(n):
        one = make(family, mu[i], kappas[i])
        close(one.log_prob(x[i]), log_p[i], rtol=1e-14, atol=1e-14 * (1 + kappa))
        close(one.entropy(), entropy[i], rtol=1e-14, atol=1e-14)
        close(one.mean, mean[i], rtol=1e-14, atol=1e-15)
        close(one.variance, variance[i], rtol=1e-14, atol=1e-15)


@each_family
@given(dimensions, concentrations, st.integers(0, 3), seeds)
@few
def test_expand_is_repeat(family, d, kappa, n, seed):
    p = make(family, unit(2, d, seed=seed), scalar(kappa))
    repeated = make(family, unit(2, d, seed=seed).repeat(n, 1, 1), scalar(kappa).repeat(n, 2))
    expanded = p.expand((n, 2))
    x = unit(n, 2, d, seed=seed + 1)
    close(expanded.log_prob(x), repeated.log_prob(x))
    for function in (lambda p: p.mean, lambda p: p.variance, lambda p: p.entropy()):
        close(function(expanded), function(repeated))


@pytest.mark.slow
@each_concentrated
@given(dimensions, concentrations, seeds)
@few
def test_samples_are_unit_vectors_whatever_the_length_of_loc(family, d, kappa, seed):
    mu, state = unit(d, seed=seed), torch.tensor([seed, 0])
    kappa = family.at(scalar(kappa))
    x, scaled = (ops.rsample(m, kappa, state, family.declared) for m in (mu, 4 * mu))
    close(x.norm(), scalar(1.0), atol=1e-15)
    close(scaled, x)  # a power of two changes no rounding


@each_family
@given(dimensions, concentrations)
@few
def test_divergence_from_uniform_vanishes_only_there(family, d, kappa):
    kappa = kappa if len(family.kappas) > 1 else 0.0
    p = make(family, unit(d), scalar(kappa))
    divergence = kl_divergence(p, HypersphericalUniform(d, dtype=torch.float64)).item()
    assert divergence >= 0
    assert (divergence == 0) == (kappa == 0)
    # KL(p || uniform) = log area - entropy
    log_area = HypersphericalUniform(d, dtype=torch.float64).entropy().item()
    close(scalar(divergence), log_area - p.entropy(), atol=1e-13 * (1 + abs(log_area) + divergence))


@each_concentrated
@given(dimensions, concentrations, concentrations, st.sampled_from([0.0, 1e-6, 0.2, 1.0]))
@few
def test_divergence_is_positive_unless_equal(family, d, kappa_p, kappa_q, y):
    mu = unit(d)
    p = make(family, mu, scalar(kappa_p))
    q = make(family, at_distance(mu, scalar(y)), scalar(kappa_q))
    assert kl_divergence(p, p) == 0
    divergence = kl_divergence(p, q)
    assert divergence >= 0
    apart = abs(kappa_p - kappa_q) > 1e-3 * (kappa_p + kappa_q) or min(kappa_p, kappa_q) * y > 1e-6
    assert divergence > 0 or not apart


@each_concentrated
@given(dimensions, concentrations, st.floats(1e-6, 10))
@few
def test_concentrating(family, d, kappa, step):
    """More concentration: longer mean, less entropy, less variance, a higher peak."""
    more = kappa * (1 + step) + 1e-6
    low, high = (make(family, unit(d), scalar(k)) for k in (kappa, more))
    shorter, longer = low.mean_resultant_length(), high.mean_resultant_length()
    assert 0 <= shorter <= longer + 1e-15
    assert longer <= 1
    # The rest to 1 falls no faster than the square of the concentration grows.
    if (1 - shorter) * min(step, (1 + step) ** -2) > 1e-14:
        assert shorter < longer < 1
    assert low.entropy() >= high.entropy()
    assert low.variance.sum() >= high.variance.sum() - 1e-16 * d
    assert low.log_prob(unit(d)) <= high.log_prob(unit(d)) + 1e-13 * d


@each_concentrated
@given(dimensions, concentrations)
@few
def test_total_variance(family, d, kappa):
    """E|x|^2 = 1: the trace of the covariance is 1 - |E[x]|^2."""
    p = make(family, unit(d), scalar(kappa))
    expected = 1 - p.mean.square().sum()
    close(p.variance.sum(), expected, atol=1e-14 * d)
    close(p.covariance_matrix.diagonal(dim1=-2, dim2=-1), p.variance, rtol=1e-13, atol=1e-16)
    for direction in (unit(d), unit(d, seed=5)):
        assert direction @ p.covariance_matrix @ direction > 0


@pytest.mark.parametrize("family", EXPONENTIAL, ids=str)
@given(dimensions, concentrations)
@few
def test_slope_of_entropy(family, d, kappa):
    """An exponential family has dH/dkappa = kappa d2/dkappa2 log p(mu)."""
    k = scalar(kappa).requires_grad_()
    p = family.make(unit(d), k)
    (slope,) = torch.autograd.grad(p.entropy(), k)
    (first,) = torch.autograd.grad(p.log_prob(unit(d)), k, create_graph=True)
    (second,) = torch.autograd.grad(first, k)
    close(slope, kappa * second, rtol=1e-11, atol=1e-15)


@each_concentrated
@given(dimensions, concentrations, seeds)
@few
def test_loc_is_the_mode(family, d, kappa, seed):
    mu = unit(d, seed=seed)
    p = make(family, mu, scalar(kappa))
    peak = p.log_prob(p.mode)
    assert (p.log_prob(unit(20, d, seed=seed + 1)) <= peak).all()
    assert math.isfinite(peak)

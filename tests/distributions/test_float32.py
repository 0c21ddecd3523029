"""What a distribution returns in float32 is what float64 says of the same parameters, rounded.

The points are random, and beside the zeros of the entropy and of the normaliser, where the terms of
either nearly cancel.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from cases import each_concentrated, path, unit
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform

pytestmark = pytest.mark.usefixtures(path.__name__)

POINTS = 15

OF_CONCENTRATION = {
    "entropy": lambda p: p.entropy(),
    "log_normalizer": lambda p: p.log_normalizer(),
    "mean_resultant_length": lambda p: p.mean_resultant_length(),
    "kl_uniform": lambda p: kl_divergence(p, uniform(p)),
    "marginal_mean": lambda p: p.marginal_t.mean,
    "marginal_variance": lambda p: p.marginal_t.variance,
    "marginal_log_prob": lambda p: p.marginal_t.log_prob(p.loc[..., 0].detach()),
}
ULPS = {"mean": 1.5, "covariance_matrix": 3, "kl_divergence": 4}  # others: 1
OF_BOTH = {
    "mean": lambda p: p.mean,
    "variance": lambda p: p.variance,
    "stddev": lambda p: p.stddev,
    "covariance_matrix": lambda p: p.covariance_matrix,
    "kl_divergence": lambda p: kl_divergence(p, away(p)),
}


def away(p):
    """The same about another mean direction."""
    return type(p)(p.loc.roll(1, -1), p.concentration, validate_args=False)


def uniform(p):
    return HypersphericalUniform(p.event_shape[0], dtype=p.loc.dtype)


def zeros(family, d):
    """Where the entropy and log C vanish, where they do."""
    law = family.make(unit(d).expand(2, d), torch.tensor([1e-3, 1e-3]).double())

    def value(name, log_kappa):
        kappa = family.at(torch.tensor(np.exp(log_kappa)).double())
        return OF_CONCENTRATION[name](type(law)(unit(d), kappa)).item()

    for name in ("entropy", "log_normalizer"):
        ends = -7.0, 16.0
        if value(name, ends[0]) * value(name, ends[1]) < 0:
            yield np.exp(scipy.optimize.brentq(lambda x, name=name: value(name, x), *ends))


def points(family):
    """(d, concentration in float32)"""
    rng = np.random.default_rng(0)
    for _ in range(POINTS):
        d = int(np.exp(rng.uniform(np.log(2), np.log(100))))
        yield d, family.at(torch.tensor(np.exp(rng.uniform(-7, 16)), dtype=torch.float32))
    for d in (3, 16, 932):
        for kappa in zeros(family, d):
            near = kappa * (1 + 1e-3 * rng.normal(size=2))
            yield from ((d, family.at(torch.tensor(k, dtype=torch.float32))) for k in near)


def both(family, d, kappa, loc=None):
    """In float32 and in float64, with the same parameters."""
    loc = unit(d, dtype=torch.float32, seed=d) if loc is None else loc
    for dtype in (torch.float32, torch.float64):
        parameters = [x.to(dtype).requires_grad_() for x in (loc, kappa)]
        yield family.make(*parameters, validate_args=False)


def assert_rounded(single, double, ulps=1.0):
    assert single.dtype == torch.float32
    size = double.detach().float().abs()
    error = (single - double).abs() / (size.nextafter(torch.tensor(torch.inf)) - size)
    assert not (error > ulps).any(), (error.max().item(), single, double)


@each_concentrated
@pytest.mark.parametrize("name", OF_CONCENTRATION)
def test_functions_of_the_concentration_and_their_slopes(family, name):
    for d, kappa in points(family):
        values = [(OF_CONCENTRATION[name](p), p) for p in both(family, d, kappa)]
        assert_rounded(*(value for value, _ in values))
        assert_rounded(*(torch.autograd.grad(value, p.concentration)[0] for value, p in values))


@each_concentrated
@pytest.mark.parametrize("name", OF_BOTH)
def test_functions_of_both_parameters(family, name):
    for d, kappa in list(points(family))[:: 3 if name == "kl_divergence" else 1]:
        if d > 100 and name == "covariance_matrix":
            continue
        e1 = 1e-4 * unit(d, dtype=torch.float32)
        e1[0] = 1
        for loc in (None, e1):  # beside e1 the variance along it is all there is of its element
            single, double = (OF_BOTH[name](p) for p in both(family, d, kappa, loc))
            assert_rounded(single, double, ULPS.get(name, 1.0))


@each_concentrated
def test_the_variance_along_a_concentrated_mean_direction(family):
    """In float64, where 1 - m_1^2 of the first element is a sum of small squares."""
    loc = torch.eye(8).double()[0] + 1e-5 * unit(8)
    p = family.make(loc, torch.tensor(family.kappas[-1]).double(), validate_args=False)
    square = loc.square()
    rest = square[1:].sum() / square.sum()
    along, across = p.marginal_t.variance, p.variance[1]  # to 1e-10
    torch.testing.assert_close(p.variance[0], along + across * rest, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("d", [2, 18, 20, 932])
def test_uniform(d):
    single, double = (HypersphericalUniform(d, dtype=x) for x in (torch.float32, torch.float64))
    assert_rounded(single.entropy(), double.entropy())
    assert_rounded(single.log_prob(single.mode), double.log_prob(double.mode))
    assert_rounded(single.variance, double.variance)

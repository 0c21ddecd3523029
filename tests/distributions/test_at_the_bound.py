"""Densities, samples and the marginal at concentrations up to the end of the domain, 2^50.

There the laws of kappa sin2 (Power Spherical) and 2 kappa sin2 (von Mises-Fisher) are Gamma(b),
b = (d - 1)/2, to a relative error of about d/kappa. The mean direction is the first axis, so that
the small angles of samples are not lost to rounding in float32.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from cases import POWER_SPHERICAL, VON_MISES_FISHER, each_float, exact_log_prob, ulps
from cases import path as path  # a fixture

from powerspherical_ext import ops

FALSE_POSITIVE_RATE = 1e-3  # of a statistical test function
DIMENSIONS = (2, 3, 4, 64)
KAPPAS = (1e9, 1e12, 1e15, math.nextafter(2.0**50, 0))
UNBOUNDED = (POWER_SPHERICAL, VON_MISES_FISHER)

each_unbounded = pytest.mark.parametrize("family", UNBOUNDED, ids=str)
each_dimension = pytest.mark.parametrize("d", DIMENSIONS)


def make(family, d, kappa, dtype):
    """About the first axis, and the scale of sin2."""
    end = torch.tensor(family.declared.upper_bound, dtype=dtype)
    concentration = torch.tensor(kappa, dtype=dtype).minimum(torch.nextafter(end, 0 * end))
    p = family.make(torch.eye(d, dtype=dtype)[0], concentration)
    return p, concentration.item() * (2 if family is VON_MISES_FISHER else 1)


@pytest.mark.slow
@each_unbounded
@each_float
@each_dimension
def test_law_of_samples(family, dtype, d, path):
    """Kolmogorov-Smirnov on sin2, and on the sign of a tangent coordinate."""
    tests = 2 * len(DIMENSIONS) * len(KAPPAS) * len(UNBOUNDED) * 4  # by two dtypes, two paths
    n = 20_000 if path == "kernels" else 2_000
    for kappa in KAPPAS:
        p, scale = make(family, d, kappa, dtype)
        torch.manual_seed(7)
        x = p.sample((n,)).double()
        assert (x.norm(dim=-1) - 1).abs().max() < (3e-7 if dtype is torch.float32 else 1e-15)
        sin2 = x[:, 1:].square().sum(-1) / 4
        law = scipy.stats.gamma((d - 1) / 2)
        assert scipy.stats.kstest(scale * sin2, law.cdf).pvalue > FALSE_POSITIVE_RATE / tests
        positive = int((x[:, 1] > 0).sum())
        assert scipy.stats.binomtest(positive, n).pvalue > FALSE_POSITIVE_RATE / tests


@pytest.mark.usefixtures(path.__name__)
@each_unbounded
@each_float
@each_dimension
def test_gradients_of_samples(family, dtype, d):
    """A tangent coordinate is proportional to kappa^-1/2."""
    for kappa in KAPPAS:
        p, _ = make(family, d, kappa, dtype)
        kappa = p.concentration.detach().requires_grad_()
        state = torch.tensor([1, 2])
        rows = p.loc.expand(50, d)
        x = ops.rsample(rows, kappa.expand(50), state, family.declared)
        (slope,) = torch.autograd.grad(x[:, 1].sum(), kappa)
        expected = -x[:, 1].double().sum() / (2 * kappa.item())
        size = x[:, 1].double().abs().sum() / (2 * kappa.item())
        assert abs(slope.item() - expected) < (1e-5 if dtype is torch.float32 else 1e-7) * size


@pytest.mark.usefixtures(path.__name__)
@each_unbounded
@each_float
@each_dimension
def test_log_prob(family, dtype, d):
    """Against mpmath, at vectors near the mean direction whose lengths are 1 to rounding of it."""
    for kappa in KAPPAS:
        p, scale = make(family, d, kappa, dtype)
        value = p.loc.clone()
        value[1:] = 2 * (torch.linspace(0.5, 1, d - 1, dtype=dtype) / scale).sqrt()
        value[0] = (1 - value[1:].square().sum()).sqrt()
        log_p = p.log_prob(value)
        expected = exact_log_prob(family, value, p.loc, p.concentration.item())
        assert ulps(log_p.item(), expected, dtype) <= 8


@each_unbounded
@each_float
@each_dimension
def test_marginal(family, dtype, d):
    b = (d - 1) / 2
    gamma = scipy.stats.gamma(b)
    level = np.array([0.01, 0.2, 0.5, 0.8, 0.99])
    for kappa in KAPPAS:
        p, scale = make(family, d, kappa, dtype)
        t, order = p.marginal_t, 20 * d**2 / kappa
        at = torch.from_numpy(1 - 2 * gamma.ppf(level) / scale)  # in float64, where t is coarse
        at = at[at < 1]
        true = gamma.sf(scale * (1 - at.numpy()) / 2)
        assert np.abs(t.cdf(at).numpy() - true).max() < 1e-12 + order
        back = t.icdf(torch.from_numpy(level)).numpy()
        assert np.abs(back - (1 - 2 * gamma.isf(level) / scale)).max() < 3e-16 + order * d / scale
        expected = gamma.entropy() - math.log(scale / 2)
        eps = torch.finfo(dtype).eps
        assert abs(t.entropy().item() - expected) < 40 * eps * abs(expected) + 1e-11 + order
        log_f = t.log_prob(at).numpy()
        expected = gamma.logpdf(scale * (1 - at.numpy()) / 2) + math.log(scale / 2)
        assert np.abs(log_f - expected).max() < 1e-12 * np.abs(expected).max() + 10 * order


@pytest.mark.usefixtures(path.__name__)
@each_unbounded
@each_float
@each_dimension
def test_moments(family, dtype, d):
    """1 - E[t] = (d - 1)/scale, and so on, to first order; the gradients in kappa as well."""
    eps = torch.finfo(dtype).eps
    for kappa in KAPPAS:
        p, scale = make(family, d, kappa, dtype)
        kappa = p.concentration.requires_grad_()
        order = 4 * eps + 20 * d / kappa.item()
        orthogonal = p.variance[1]
        assert abs(orthogonal.item() * scale / 2 - 1) < order
        (slope,) = torch.autograd.grad(orthogonal, kappa)
        assert abs(-slope.item() * scale * kappa.item() / 2 - 1) < 3 * order
        mean = p.mean_resultant_length()
        assert abs(mean.item() - (1 - (d - 1) / scale)) < eps + order * d / scale
        (slope,) = torch.autograd.grad(mean, kappa)
        assert abs(slope.item() * scale * kappa.item() / (d - 1) - 1) < 2 * order

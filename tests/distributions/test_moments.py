"""Moments and entropy, for every row of the table in cases.py."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from cases import (
    CONCENTRATED,
    close,
    each_case,
    each_family,
    each_float,
    exact_entropy,
    unit,
)
from mpmath import mpf
from torch.distributions import kl

from powerspherical_ext import HypersphericalUniform


def tolerance(case):
    return {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[
        case.dtype
    ]


@each_case
def test_moments_are_exact(case):
    """E[x] = E[t] mu, Cov[x] = v (I - mu mu^T) + Var[t] mu mu^T, v = E[1 - t^2]/(d - 1)."""
    p, d = case.make(), case.d
    mu = torch.nn.functional.normalize(p.mode.double(), dim=-1)
    kappa = getattr(p, "concentration", torch.zeros(case.batch_shape)).double()
    moments = [case.family.moments(d, mpf(k)) for k in kappa.flatten().tolist()]
    scalars = [
        (float(t), float((1 - square) / (d - 1)), float(square - t * t)) for t, square in moments
    ]
    t, v, variance = torch.tensor(scalars, dtype=torch.float64).view(*p.batch_shape, 3).unbind(-1)
    outer = mu.unsqueeze(-1) * mu.unsqueeze(-2)
    covariance = v[..., None, None] * (torch.eye(d) - outer) + variance[..., None, None] * outer
    relative = tolerance(case)
    scale = 0.0 if v.numel() == 0 else v.max().item()
    close(p.mean.double(), t.unsqueeze(-1) * mu, rtol=relative, atol=relative)
    close(p.covariance_matrix.double(), covariance, rtol=relative, atol=relative * scale)
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    close(p.variance.double(), diagonal, rtol=relative, atol=relative * scale)
    close(p.stddev.double(), diagonal.sqrt(), rtol=relative, atol=relative * scale**0.5)
    if case.family in CONCENTRATED:
        close(p.mean_resultant_length().double(), t, rtol=relative, atol=0)


def heaviness(family, d, kappa):
    """E[y^2]/E[y]^2 for y = (1 - t)/2: at most 3 for concentrated families of exponential form."""
    mean, square = family.moments(d, mpf(kappa))
    return (1 - 2 * mean + square) / (1 - mean) ** 2


@each_family
@pytest.mark.parametrize("d", [2, 3, 8, 64])
def test_moments_of_samples(family, d):
    """z-scores of the mean of x and of (c . x)^2; the false-positive rate of each call is 1e-3.

    They are normal where 500 or more samples carry the variance of y. A law with a heavy tail is
    left out where fewer do; the test of the sampler of t covers it there.
    """
    n, c = 20_000, unit(d, seed=8)
    bound = scipy.stats.norm.isf(1e-3 / 2 / (len(family.kappas) * (d + 1)))
    kappas = [kappa for kappa in family.kappas if heaviness(family, d, kappa) <= n / 500]
    assert len(kappas) > len(family.kappas) / 2
    for kappa in kappas:
        p = family.make(unit(d), torch.tensor(kappa, dtype=torch.float64))
        torch.manual_seed(d)
        x = p.sample((n,)) - p.mean
        square = (x @ c).square() - c @ p.covariance_matrix @ c
        for series in (x, square.unsqueeze(-1)):
            z = series.mean(0) / (series.std(0) / n**0.5)
            assert z.abs().max() < bound, kappa


@each_family
@each_float
@pytest.mark.parametrize("d", [2, 3, 8, 64, 512])
def test_entropy_and_divergence_from_uniform(family, dtype, d):
    """Against quadrature of -p log p in mpmath; KL = log area - entropy."""
    mu = torch.eye(d, dtype=dtype)[0]
    uniform = HypersphericalUniform(d, dtype=dtype)
    log_area = uniform.entropy().item()
    bound = {torch.float32: 5e-7, torch.float64: 3e-12}[dtype]
    for kappa in family.kappas:
        p = family.make(mu, torch.tensor(kappa, dtype=dtype))
        expected = exact_entropy(family, d, p.concentration.item() if kappa else 0.0)
        assert abs(p.entropy().item() - expected) <= bound * max(abs(expected), 1)
        divergence = kl.kl_divergence(p, uniform).item()
        assert divergence >= 0
        assert abs(divergence - (log_area - expected)) <= bound * max(abs(expected), log_area, 1)

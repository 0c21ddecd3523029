"""KL divergences between the rows of the table in cases.py."""

from __future__ import annotations

import itertools

import pytest
import scipy.stats
import torch
from cases import (
    FAMILIES,
    each_case,
    each_family,
    unit,
)
from torch.distributions import kl


@each_case
def test_divergences_broadcast(case):
    p, uniform = case.make(), case.uniform().expand((5, *(1 for _ in case.batch_shape)))
    value = kl.kl_divergence(p, uniform)
    assert value.shape == (5, *case.batch_shape)
    assert (value >= 0).all()
    zero = kl.kl_divergence(uniform, case.uniform())
    assert zero.shape == uniform.batch_shape
    assert (zero == 0).all()


@pytest.mark.parametrize("p_family", FAMILIES, ids=str)
@pytest.mark.parametrize("q_family", FAMILIES, ids=str)
def test_divergence_is_the_mean_log_ratio(p_family, q_family):
    """z-scores of E_p[log p - log q] over samples; the false-positive rate of each call is 1e-3.
    Shapes broadcast, and half precision gives float32."""
    n, bound = 20_000, scipy.stats.norm.isf(1e-3 / 2 / 18)
    kappa_p = torch.tensor([0.0, 2.0, 300.0], dtype=torch.float64)
    kappa_q = torch.tensor([0.0, 5.0], dtype=torch.float64).unsqueeze(-1)
    for d in (2, 3, 8):
        p = p_family.make(unit(3, d), kappa_p)
        q = q_family.make(unit(2, 1, d, seed=4), kappa_q)
        torch.manual_seed(d)
        x = p.sample((n,)).unsqueeze(1)
        ratio = p.log_prob(x.squeeze(1)).unsqueeze(1) - q.log_prob(x)
        divergence = kl.kl_divergence(p, q)
        assert divergence.shape == (2, 3)
        error = (ratio.std(0) / n**0.5).clamp(min=1e-12)
        assert ((ratio.mean(0) - divergence).abs() < bound * error).all()
        assert (kl.kl_divergence(p, p) == 0).all()
        half = p_family.make(unit(3, d, dtype=torch.bfloat16), kappa_p.bfloat16())
        assert kl.kl_divergence(half, half).dtype == torch.float32


@each_family
def test_divergence_needs_one_sphere(family):
    p = family.make(unit(3), 0.0)
    for other, d in itertools.product(FAMILIES, (2, 4)):
        with pytest.raises(ValueError, match=f"same sphere.* 3 and {d}"):
            kl.kl_divergence(p, other.make(unit(d), 0.0))

"""KL divergences between the rows of the table in cases.py."""

from __future__ import annotations

import itertools

import pytest
import scipy.stats
import torch
from cases import (
    CONCENTRATED,
    FAMILIES,
    UNIFORM,
    each_case,
    each_family,
    unit,
)
from torch.distributions import kl


def is_known(p, q):
    """Whether KL(p || q) is: all divergences from and to the uniform distribution are."""
    return UNIFORM in (p, q) or q.declared.name in p.declared.kl


PAIRS = list(itertools.product(FAMILIES, FAMILIES))
KNOWN = [pair for pair in PAIRS if is_known(*pair)]
UNKNOWN = [pair for pair in PAIRS if not is_known(*pair)]


def concentration(family, kappa):
    """`Family.at`, and any number for the uniform distribution."""
    return family.at(kappa) if family in CONCENTRATED else kappa


@each_case
def test_divergences_broadcast(case):
    p, uniform = case.make(), case.uniform().expand((5, *(1 for _ in case.batch_shape)))
    value = kl.kl_divergence(p, uniform)
    assert value.shape == (5, *case.batch_shape)
    assert (value >= 0).all()
    zero = kl.kl_divergence(uniform, case.uniform())
    assert zero.shape == uniform.batch_shape
    assert (zero == 0).all()


def test_every_family_has_its_own_divergence():
    assert set(zip(FAMILIES, FAMILIES, strict=True)) <= set(KNOWN)


@pytest.mark.parametrize(("p_family", "q_family"), UNKNOWN, ids=str)
def test_unknown_divergences_raise(p_family, q_family):
    names = f"{p_family.declared.name} to {q_family.declared.name}"
    with pytest.raises(NotImplementedError, match=names):
        kl.kl_divergence(p_family.make(unit(3), 0.5), q_family.make(unit(3), 0.5))


@pytest.mark.parametrize(("p_family", "q_family"), KNOWN, ids=str)
def test_divergence_is_the_mean_log_ratio(p_family, q_family):
    """z-scores of E_p[log p - log q] over samples; the false-positive rate of each call is 1e-3.
    Shapes broadcast, and half precision gives float32."""
    n, bound = 20_000, scipy.stats.norm.isf(1e-3 / 2 / 18)
    kappa_p = torch.tensor([0.0, 2.0, 300.0], dtype=torch.float64)
    kappa_q = torch.tensor([0.0, 5.0], dtype=torch.float64).unsqueeze(-1)
    for d in (2, 3, 8):
        p = p_family.make(unit(3, d), concentration(p_family, kappa_p))
        q = q_family.make(unit(2, 1, d, seed=4), concentration(q_family, kappa_q))
        torch.manual_seed(d)
        x = p.sample((n,)).unsqueeze(1)
        ratio = p.log_prob(x.squeeze(1)).unsqueeze(1) - q.log_prob(x)
        divergence = kl.kl_divergence(p, q)
        assert divergence.shape == (2, 3)
        error = (ratio.std(0) / n**0.5).clamp(min=1e-12)
        assert ((ratio.mean(0) - divergence).abs() < bound * error).all()
        assert (kl.kl_divergence(p, p) == 0).all()
        kappa_half = concentration(p_family, kappa_p.bfloat16())
        half = p_family.make(unit(3, d, dtype=torch.bfloat16), kappa_half)
        assert kl.kl_divergence(half, half).dtype == torch.float32


@each_family
def test_divergence_needs_one_sphere(family):
    p = family.make(unit(3), 0.0)
    for other, d in itertools.product(FAMILIES, (2, 4)):
        with pytest.raises(ValueError, match=f"same sphere.* 3 and {d}"):
            kl.kl_divergence(p, other.make(unit(d), 0.0))

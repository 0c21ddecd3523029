"""The objective beyond Table 1: products of experts, and a q that is no point mass."""

from __future__ import annotations

import math

import pytest
import torch
from loss_inputs import FAMILIES, D, N, concentrations, features, in_domain, unit
from scipy.special import ive
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, PowerSpherical, VonMisesFisher
from powerspherical_ext.families import family_named
from powerspherical_ext.losses import (
    expected_log_prob,
    j_align,
    j_kl,
    j_uniform,
    log_renormalizer,
)

# Product of experts


def test_the_renormaliser_normalises_the_product():
    experts = [VonMisesFisher(unit(features(N, D, seed=i)), concentrations(N)) for i in range(3)]
    z = unit(features(N, D, seed=9))
    fused = VonMisesFisher.product(*experts)
    by_hand = sum(p.log_prob(z) for p in experts) + log_renormalizer(*experts)
    torch.testing.assert_close(fused.log_prob(z), by_hand)
    exact = j_align(z, fused)
    torch.testing.assert_close(exact, by_hand)


def test_the_renormaliser_against_bessel_functions():
    d, kappas = 32, torch.tensor([3.0, 11.0, 19.0], dtype=torch.float64)
    mus = unit(features(3, d))
    v = d / 2 - 1

    def log_c(k):
        return v * math.log(k) - d / 2 * math.log(2 * math.pi) - math.log(ive(v, k)) - k

    fused = (kappas[:, None] * mus).sum(0).norm().item()
    expected = log_c(fused) - sum(log_c(k.item()) for k in kappas)
    ours = log_renormalizer(*(VonMisesFisher(mu, k) for mu, k in zip(mus, kappas, strict=True)))
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_the_renormaliser_in_float32():
    """log C of each term is of size 1e5, and their difference of size 10; against float64 at the
    same parameters."""
    mus = unit(features(2, N, D)).float()
    parameters = list(zip(mus[:1] + 1e-3 * mus, torch.tensor([4e4, 5e4]), strict=True))
    single, double = (
        [VonMisesFisher(m.to(x), k.to(x), validate_args=False) for m, k in parameters]
        for x in (torch.float32, torch.float64)
    )
    ours, exact = log_renormalizer(*single), log_renormalizer(*double)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=1e-7, atol=0.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_expected_log_density_in_float32(name):
    """- H(q) - KL(q || p), which vanishes at some concentration of p, where both terms are of size
    100; against float64 at the same parameters."""
    n, d = 300, 128
    mu, q = unit(features(1, d)).float(), in_domain(name, torch.tensor(10.0)).expand(n)
    p = in_domain(name, torch.logspace(-2, 4, n))
    single, double = (
        expected_log_prob(*(FAMILIES[name](mu.to(x), k.to(x), validate_args=False) for k in (q, p)))
        for x in (torch.float32, torch.float64)
    )
    assert single.dtype == torch.float32
    assert double.min() < 0 < double.max()
    torch.testing.assert_close(single.double(), double, rtol=1e-7, atol=0.0)


def test_the_renormaliser_is_no_constant():
    """So dropping it (eq. 17) changes the objective."""
    east, north = torch.eye(2, dtype=torch.float64)
    agree = log_renormalizer(VonMisesFisher(east, 5.0), VonMisesFisher(east, 5.0))
    differ = log_renormalizer(VonMisesFisher(east, 5.0), VonMisesFisher(north, 5.0))
    assert abs(agree - differ) > 1
    p = features(N, D)
    other = VonMisesFisher(unit(features(N, D, seed=1)), 5.0)
    eta = log_renormalizer(VonMisesFisher(unit(p), 5.0), other)
    assert torch.autograd.grad(eta.sum(), p)[0].abs().max() > 1e-3


# A stochastic q


# The pairs of names (q, p) between which a divergence is known.
PAIRS = [(q, p) for q in FAMILIES for p in family_named(q).kl]
each_pair = pytest.mark.parametrize("families", PAIRS, ids="-".join)


@each_pair
def test_samples_estimate_the_closed_form_and_its_gradient(families):
    """20,000 samples. Each of 12 means lies within 5 of its own standard errors, of 50 batches:
    by Student's t of 49 degrees of freedom a right one fails in 1e-4 of all seeds."""
    d = 4
    kappa_q, kappa_p = (
        in_domain(name, torch.tensor(kappas, dtype=torch.float64))
        for name, kappas in zip(families, ([3.0, 12.0], [8.0, 2.0]), strict=True)
    )
    kappa_q.requires_grad_()
    loc_q, loc_p = features(2, d), unit(features(2, d, seed=1)).detach()
    q = FAMILIES[families[0]](unit(loc_q), kappa_q)
    p = FAMILIES[families[1]](loc_p, kappa_p)

    def value_and_slopes(n_samples):
        value = expected_log_prob(q, p, n_samples=n_samples)
        slopes = torch.autograd.grad(value.sum(), (loc_q, kappa_q), retain_graph=True)
        return torch.cat([x.detach().flatten() for x in (value, *slopes)])

    torch.manual_seed(0)
    estimates = torch.stack([value_and_slopes(400) for _ in range(50)])
    error = estimates.std(0) / math.sqrt(50)
    assert ((estimates.mean(0) - value_and_slopes(0)).abs() < 5 * error).all()
    assert (error < 0.05).all()


@each_pair
def test_a_narrow_q_is_a_point_mass(families):
    q, p = families
    z = unit(features(N, D))
    p = FAMILIES[p](unit(features(N, D, seed=1)), in_domain(p, 6.0))
    narrow = FAMILIES[q](z, in_domain(q, 1e7))
    torch.testing.assert_close(expected_log_prob(narrow, p), p.log_prob(z), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_kl_of_a_stochastic_q(name):
    kappa = concentrations(N, name=name)
    views = [FAMILIES[name](unit(features(N, D, seed=i)), kappa) for i in range(2)]
    prior = HypersphericalUniform(D, dtype=torch.float64)
    expected = -(kl_divergence(views[0], prior) + kl_divergence(views[1], prior)) / 2
    torch.testing.assert_close(j_kl(views, prior), expected)


def test_the_optimal_q_is_the_normalised_prediction():
    """J_align + J_KL = E_q log p - KL(q || uniform) is greatest at q = p: there it is constant."""
    d = 5
    p = PowerSpherical(unit(features(1, d)), torch.tensor([9.0], dtype=torch.float64))
    uniform = HypersphericalUniform(d, dtype=torch.float64)

    def objective(q):
        return (j_align(q, p) + j_kl(q, uniform)).item()

    best = objective(p)
    assert best == pytest.approx(-uniform.entropy().item(), rel=1e-6)
    assert objective(PowerSpherical(p.loc, p.concentration * 1.3)) < best
    assert objective(PowerSpherical(p.loc, p.concentration / 1.3)) < best
    assert objective(PowerSpherical(unit(p.loc + 0.1), p.concentration)) < best


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stochastic_objective_in_float32_at_the_papers_size(name):
    kappas = [concentrations(8, name=name, scale=100).float().double().detach() for _ in "qp"]
    kappas = [kappa.requires_grad_() for kappa in kappas]
    inputs = features(8, 2048), features(8, 2048, seed=1), *kappas

    def objective(z, pred, kappa_q, kappa_p):
        q, p = FAMILIES[name](unit(z), kappa_q), FAMILIES[name](unit(pred + z), kappa_p)
        return j_align(q, p) + j_kl(q, HypersphericalUniform(2048, dtype=z.dtype))

    single = [x.detach().float().requires_grad_() for x in inputs]
    exact, ours = objective(*inputs), objective(*single)
    torch.testing.assert_close(ours.double(), exact, atol=2e-3, rtol=0)
    gradients = (torch.autograd.grad(x.sum(), y) for x, y in ((ours, single), (exact, inputs)))
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_uniformity_of_a_stochastic_q():
    q = PowerSpherical(unit(features(N, D)), concentrations(N))
    p = PowerSpherical(unit(features(N, D, seed=1)), concentrations(N))
    torch.manual_seed(0)
    z = q.rsample((3,))
    torch.manual_seed(0)
    expected = torch.stack([j_uniform(x, p) for x in z]).mean(0)
    torch.testing.assert_close(j_uniform(q, p, n_samples=3), expected)


# A point mass


def test_a_point_mass_has_a_constant_kl():
    z = unit(features(N, D))
    torch.testing.assert_close(j_kl(z), torch.zeros(N, dtype=torch.float64))
    assert not j_kl(z.detach()).requires_grad

"""SimCLR and VI-SimCLR by their published formulas, as cases of one objective."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import FAMILIES, D, N, assert_same, concentrations, features, in_domain, unit

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.families import family_named
from powerspherical_ext.losses import (
    j_align,
    j_uniform,
    nt_xent_loss,
    simclr_loss,
    vi_simclr_loss,
)

# SimCLR: Claim 4.5


def equation_2(pred, target, kappa):
    """Eq. 2, in loops."""
    g, f = unit(pred), unit(target)
    total = 0.0
    for i in range(len(f)):
        others = torch.stack([torch.exp(kappa * g[k] @ f[i]) for k in range(len(g))])
        total = total + torch.log(others[i] / others.sum())
    return total / len(f)


def test_claim_4_5_alignment_and_uniformity_at_constant_kappa_are_simclr():
    kappa = 10.0
    p, z = features(N, D), features(N, D, seed=1)
    published = equation_2(p, z, kappa)
    posterior = VonMisesFisher(unit(p), kappa)
    objective = (j_align(unit(z), posterior) + j_uniform(unit(z), posterior)).mean()
    assert_same(objective, published, (p, z), constant=math.log(N))
    assert_same(simclr_loss(p, z, temperature=1 / kappa), published, (p, z), factor=-1)


def simclr_published(z1, z2, temperature):
    """NT-Xent as its authors code it: two cross-entropies, a large number on the own places."""
    h1, h2 = unit(z1), unit(z2)
    mask = torch.eye(len(z1), dtype=z1.dtype) * 1e9
    aa, bb = h1 @ h1.T / temperature - mask, h2 @ h2.T / temperature - mask
    ab, ba = h1 @ h2.T / temperature, h2 @ h1.T / temperature
    labels = torch.arange(len(z1))
    loss_a = F.cross_entropy(torch.cat([ab, aa], 1), labels)
    loss_b = F.cross_entropy(torch.cat([ba, bb], 1), labels)
    return loss_a + loss_b


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_published_one(temperature):
    z1, z2 = features(N, D), features(N, D, seed=1)
    published = simclr_published(z1, z2, temperature)
    assert_same(nt_xent_loss(z1, z2, temperature=temperature), published, (z1, z2), factor=0.5)


def test_nt_xent_is_the_objective_with_both_views_in_the_marginal():
    z1, z2 = features(N, D), features(N, D, seed=1)
    every = unit(torch.cat([z1, z2]))
    log_p = VonMisesFisher(every, 2.0).log_prob(every.unsqueeze(1))  # [a, c] = log p_c(z_a)
    total = 0.0
    for a in range(2 * N):
        others = [c for c in range(2 * N) if c != a]
        marginal = torch.logsumexp(log_p[a, others], 0) - math.log(2 * N - 1)
        total = total + log_p[a, (a + N) % (2 * N)] - marginal
    loss = nt_xent_loss(z1, z2, temperature=0.5)
    assert_same(total / (2 * N), loss, (z1, z2), factor=-1, constant=math.log(2 * N - 1))


# VI-SimCLR


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_is_alignment_and_uniformity(name):
    p, z, kappa = features(N, D), features(N, D, seed=1), concentrations(N, name=name)
    posterior = FAMILIES[name](unit(p), kappa)
    objective = (j_align(unit(z), posterior) + j_uniform(unit(z), posterior)).mean()
    loss = vi_simclr_loss(p, z, kappa, distribution=name)
    assert_same(loss, objective, (p, z, kappa), factor=-1, constant=math.log(N))


def test_vi_simclr_at_constant_kappa_is_simclr():
    p, z = features(N, D), features(N, D, seed=1)
    kappa = torch.full((N, 1), 8.0, dtype=torch.float64)
    ours = vi_simclr_loss(p, z, kappa, distribution="von_mises_fisher")
    assert_same(ours, simclr_loss(p, z, temperature=1 / 8), (p, z))


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_of_collapsed_features_is_log_n(name):
    same = torch.ones(N, D)
    for kappa in (0.01, 1.0, 100.0, 1e4):
        kappas = in_domain(name, torch.full((N,), kappa))
        loss = vi_simclr_loss(same, same, kappas, distribution=name)
        zero, one = kappas.new_zeros(()), kappas.new_ones(())
        slope = family_named(name).reference.log_prob_ratio_dt(kappas[0], D, zero, one).item()
        # Cosines are right to a rounding of 1, which counts above a slope of 2e4.
        rounding = torch.finfo(kappas.dtype).eps / 2
        assert loss.item() == pytest.approx(math.log(N), abs=max(1e-3, rounding * slope))


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_is_finite_at_the_antipode(name):
    z = unit(features(N, D, dtype=torch.float32)).detach()
    pred, kappa = (-z).requires_grad_(), in_domain(name, torch.full((N,), 1e4)).requires_grad_()
    loss = vi_simclr_loss(pred, z, kappa, distribution=name)
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, (pred, kappa)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("pole", [1, -1])
@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_in_float32_near_the_poles(name, pole):
    """Vectors of any length, at angles below the rounding of a cosine to float32; against float64
    at the same numbers. Errors are those of the largest log-density ratio."""
    kappa = torch.linspace(0.9, 1.0, N)
    kappa = 1 - 1e-4 * kappa if family_named(name).is_bounded else 1e6 * kappa
    near = unit(features(1, D)).detach() + 1e-4 * features(N, D, seed=1).detach()
    pred = pole * (near + 1e-4 * features(N, D, seed=2).detach())
    single = [x.float().requires_grad_() for x in (3 * pred, near / 3, kappa)]
    exact = [x.detach().double().requires_grad_() for x in single]
    loss, true = (
        vi_simclr_loss(*inputs, distribution=name, reduction="none") for inputs in (single, exact)
    )
    size = 1e6 * math.log(1e7) if family_named(name).exponential_form and pole < 0 else 1e3
    torch.testing.assert_close(loss.double(), true, rtol=1e-6, atol=1e-6 * size)
    gradients = (torch.autograd.grad(x.sum(), y) for x, y in ((loss, single), (true, exact)))
    for ours, truth in zip(*gradients, strict=True):
        assert (ours - truth).norm() <= 2e-4 * truth.norm()


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_in_float32_at_the_papers_size(name):
    z = features(32, 2048)
    pred = (z + 0.5 * features(32, 2048, seed=1)).detach().requires_grad_()
    # Mean resultant lengths from 0.2 to 0.8.
    scale = 1 / 50 if family_named(name).is_bounded else 100
    kappa = concentrations(32, name=name, scale=scale).float().double().detach().requires_grad_()
    # Directions near one another, so that the loss is no saturated 0.
    shared = 10 * features(1, 2048, seed=2).detach()
    exact = vi_simclr_loss(pred + shared, z + shared, kappa, distribution=name)
    exact_grad = torch.autograd.grad(exact, (pred, kappa))
    single = [x.detach().float().requires_grad_() for x in (pred, kappa)]
    loss = vi_simclr_loss(
        single[0] + shared.float(), (z + shared).detach().float(), single[1], distribution=name
    )
    assert exact.item() > 0.01
    assert loss.item() == pytest.approx(exact.item(), rel=2e-3)
    for ours, truth in zip(torch.autograd.grad(loss, single), exact_grad, strict=True):
        assert (ours - truth).norm() < 5e-3 * truth.norm()

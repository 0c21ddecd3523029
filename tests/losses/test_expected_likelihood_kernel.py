"""The expected likelihood kernel by quadrature and in closed form, and at infinite kappa."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import FAMILIES, N, assert_same, in_domain, unit
from stochastic import circle, inputs, others, seeded

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.families import family_named
from powerspherical_ext.losses import (
    ExpectedLikelihoodKernelLoss,
    expected_likelihood_kernel_loss,
)
from powerspherical_ext.losses.expected_likelihood_kernel import _by_samples

CLOSED = [name for name in FAMILIES if family_named(name).likelihood_kernel]
SAMPLED = [name for name in FAMILIES if name not in CLOSED]


def loss_of_kernel(log_kernel, temperature):
    """The loss of each view, in loops, for log k (2N, 2N)."""
    n = len(log_kernel) // 2
    losses = []
    for a in range(2 * n):
        terms = torch.stack([log_kernel[a, c] / temperature for c in others(a, n)])
        losses.append(terms.logsumexp(0) - terms[0])
    return torch.stack(losses).view(2, n)


def kernel_on_the_circle(z1, z2, kappa1, kappa2, name, nodes=2000):
    loc, kappa = unit(torch.cat([z1, z2])), torch.cat([kappa1, kappa2])
    p = FAMILIES[name](loc, kappa).log_prob(circle(nodes).unsqueeze(1)).exp()
    return (p.T @ p * 2 * math.pi / nodes).log()


@pytest.mark.parametrize("temperature", [1.0, 7.0])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_against_quadrature_on_the_circle(name, temperature):
    tensors = inputs(4, 2, name)
    published = loss_of_kernel(kernel_on_the_circle(*tensors, name), temperature)
    options = {"temperature": temperature, "distribution": name}
    ours = expected_likelihood_kernel_loss(*tensors, reduction="none", **options)
    torch.testing.assert_close(ours, published, rtol=1e-10, atol=1e-11)
    mean = expected_likelihood_kernel_loss(*tensors, **options)
    assert_same(mean, published.mean(), tensors)


def test_closed_form_is_that_of_the_normalisers():
    """log C(kappa_a) + log C(kappa_b) - log C(|kappa_a mu_a + kappa_b mu_b|), in 12 dimensions."""
    tensors = inputs(5)
    mu, kappa = unit(torch.cat(tensors[:2])), torch.cat(tensors[2:])
    both = (kappa[:, None] * mu)[:, None] + (kappa[:, None] * mu)[None]

    def log_c(kappa):
        loc = torch.eye(12, dtype=torch.float64)[0]
        return VonMisesFisher(loc, kappa, validate_args=False).log_normalizer()

    log_kernel = log_c(kappa)[:, None] + log_c(kappa) - log_c(both.norm(dim=-1))
    ours = expected_likelihood_kernel_loss(*tensors)
    assert_same(ours, loss_of_kernel(log_kernel, 1.0).mean(), tensors)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_samples_against_quadrature_on_the_circle(name):
    """With two views in two batches exp(-loss) is no mean, so that the estimate is compared where
    many samples make its logarithm nearly one: within 4.5 standard errors of 30 estimates, and the
    bias, which is smaller; 7e-6 of false alarms for each of 24 numbers."""
    tensors = inputs(2, 2, name)
    log_kernel = kernel_on_the_circle(*tensors, name, nodes=20_000)
    published = loss_of_kernel(log_kernel, 2.0).mean()
    exact = torch.cat(
        [published[None], *(g.flatten() for g in torch.autograd.grad(published, tensors))]
    )
    estimates = []
    for seed in range(30):
        loss = expected_likelihood_kernel_loss(
            *tensors, n_samples=20_000, temperature=2.0, distribution=name, generator=seeded(seed)
        )
        grads = torch.autograd.grad(loss, tensors)
        estimates.append(torch.cat([loss[None], *(g.flatten() for g in grads)]).detach())
    estimates = torch.stack(estimates)
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - exact).abs() < 4.5 * error + 1e-5).all()
    assert (error < 0.02 * exact.abs().max()).all()


@pytest.mark.slow
def test_samples_have_the_closed_form_of_von_mises_fisher(monkeypatch):
    *zs, kappa1, kappa2 = inputs(3, 6)
    tensors = *zs, *((k / 10).detach().requires_grad_() for k in (kappa1, kappa2))
    exact = expected_likelihood_kernel_loss(*tensors, temperature=3.0)
    monkeypatch.setattr(
        "powerspherical_ext.losses.expected_likelihood_kernel._closed_form",
        lambda views, _: _by_samples(views, 40_000, seeded()),
    )
    ours = expected_likelihood_kernel_loss(*tensors, temperature=3.0)
    torch.testing.assert_close(ours, exact, rtol=0.01, atol=0.01)
    grads = (torch.autograd.grad(x, tensors) for x in (ours, exact))
    for a, b in zip(*grads, strict=True):
        assert (a - b).norm() < 0.05 * b.norm()


def test_at_infinite_kappa_it_is_info_nce_of_half_the_angle():
    """With the temperature kappa tau: NT-Xent with |mu_a + mu_c| in the place of the cosine."""
    z1, z2, *_ = inputs()
    number, tau = 1e12, 0.3
    kappa = torch.full((N,), number, dtype=torch.float64)
    ours = expected_likelihood_kernel_loss(z1, z2, kappa, kappa, temperature=number * tau)
    mu = unit(torch.cat([z1, z2]))
    similarity = (mu[:, None] + mu[None]).norm(dim=-1) / tau
    similarity = similarity.masked_fill(torch.eye(2 * N, dtype=torch.bool), -torch.inf)
    published = F.cross_entropy(similarity, torch.arange(2 * N).roll(N))
    torch.testing.assert_close(ours, published, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_at_high_concentrations_and_at_antipodes(name):
    """Finite values and gradients, and those of float64 for the closed form."""
    z, *_ = inputs(6, 3)
    z1, z2 = z.detach(), torch.cat([-z[:3], z[3:] + 1e-3]).detach()
    kappa = in_domain(name, torch.tensor([0.3, 1e6, 50.0, 1e6, 1e3, 2.0], dtype=torch.float64))
    results = []
    for dtype in (torch.float32, torch.float64):
        tensors = [x.to(dtype).requires_grad_() for x in (z1, z2, kappa, kappa)]
        loss = expected_likelihood_kernel_loss(
            *tensors, distribution=name, reduction="none", generator=seeded()
        )
        assert loss.dtype == dtype
        assert loss.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss.sum(), tensors))
        results.append(loss.double())
    if name in CLOSED:
        torch.testing.assert_close(*results, rtol=1e-5, atol=1.0)  # of log k up to 1e7


def test_module():
    tensors = inputs(name="power_spherical")
    options = {"n_samples": 5, "temperature": 2.0, "distribution": "power_spherical"}
    for learnable in (False, True):
        criterion = ExpectedLikelihoodKernelLoss(learnable=learnable, **options).double()
        expected = expected_likelihood_kernel_loss(*tensors, generator=seeded(), **options)
        torch.testing.assert_close(criterion(*tensors, generator=seeded()), expected)
        assert len(list(criterion.parameters())) == learnable

"""MCInfoNCE by its formula in loops, by quadrature, and at infinite kappa."""

from __future__ import annotations

import math

import pytest
import torch
from loss_inputs import FAMILIES, N, assert_same, features, unit
from stochastic import circle, inputs, others, samples, seeded

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.losses import MCInfoNCELoss, mc_infonce_loss, nt_xent_loss


@pytest.mark.parametrize("name", FAMILIES)
def test_the_formula_in_loops(name):
    tensors, n_samples, temperature = inputs(4, name=name), 3, 0.2
    e = samples(*tensors, n_samples, name)
    losses = []
    for a in range(8):
        shares = []
        for s in range(n_samples):
            terms = torch.stack([(e[s, a] @ e[s, c] / temperature).exp() for c in others(a, 4)])
            shares.append(terms[0] / terms.sum())
        losses.append(-torch.stack(shares).mean().log())
    options = {"n_samples": n_samples, "temperature": temperature, "distribution": name}
    ours = mc_infonce_loss(*tensors, reduction="none", generator=seeded(), **options)
    published = torch.stack(losses).view(2, 4)
    assert_same(ours.sin().sum(), published.sin().sum(), tensors)
    torch.testing.assert_close(ours, published)
    for reduction in ("mean", "sum"):
        ours = mc_infonce_loss(*tensors, reduction=reduction, generator=seeded(), **options)
        torch.testing.assert_close(ours, getattr(published, reduction)())


@pytest.mark.slow
def test_quadrature_on_the_circle():
    """exp(-loss) is an unbiased estimate of an integral over four circles, and so are its
    gradients: within 4.5 standard errors of 40 batches of samples, 6e-5 of false alarms for 9
    numbers."""
    z, kappa = features(4, 2), torch.tensor([3.0, 1.0, 6.0, 2.0], dtype=torch.float64)
    kappa.requires_grad_()
    x = circle(40)
    p = VonMisesFisher(unit(z), kappa).log_prob(x.unsqueeze(1)).exp() * 2 * math.pi / 40
    k = (2.0 * x @ x.T).exp()  # temperature 0.5
    # View 0 among 2, its partner, and 1 and 3: a, b, c and d.
    share = k[:, :, None, None] / (k[:, :, None, None] + k[:, None, :, None] + k[:, None, None, :])
    exact = torch.einsum("abcd,a,b,c,d->", share, p[:, 0], p[:, 2], p[:, 1], p[:, 3])
    exact = torch.stack(
        [exact, *torch.cat([g.flatten() for g in torch.autograd.grad(exact, (z, kappa))])]
    )
    estimates = []
    for seed in range(40):
        loss = mc_infonce_loss(
            z[:2],
            z[2:],
            kappa[:2],
            kappa[2:],
            n_samples=4000,
            temperature=0.5,
            reduction="none",
            generator=seeded(seed),
        )
        value = (-loss[0, 0]).exp()
        grads = torch.autograd.grad(value, (z, kappa))
        estimates.append(torch.stack([value.detach(), *torch.cat([g.flatten() for g in grads])]))
    estimates = torch.stack(estimates)
    error = estimates.std(0) / len(estimates) ** 0.5
    z_scores = (estimates.mean(0) - exact.detach()) / error.clamp(min=1e-12)
    assert (z_scores.abs() < 4.5).all(), z_scores
    assert (error < 0.02 * exact.abs().max()).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_at_infinite_kappa_it_is_nt_xent(reduction):
    z1, z2, *_ = inputs()
    kappa = torch.full((N,), 1e15, dtype=torch.float64)
    ours = mc_infonce_loss(z1, z2, kappa, kappa, temperature=0.3, reduction=reduction)
    published = nt_xent_loss(z1, z2, temperature=0.3, reduction=reduction)
    torch.testing.assert_close(ours, published, rtol=1e-6, atol=1e-6)
    grads = (torch.autograd.grad(x.sum(), (z1, z2)) for x in (ours, published))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_at_kappa_0_it_is_that_of_independent_points():
    """The loss says nothing then: the mean over views of the share of the partner is 1/(2N - 1)."""
    z1, z2, *_ = inputs()
    kappa = torch.full((N,), 1e-9, dtype=torch.float64)
    loss = mc_infonce_loss(z1, z2, kappa, kappa, n_samples=4000, generator=seeded())
    assert loss.item() == pytest.approx(math.log(2 * N - 1), abs=0.1)


def test_a_learnt_temperature():
    tensors = inputs()
    criterion = MCInfoNCELoss(temperature=0.25, learnable=True, n_samples=4).double()
    loss = criterion(*tensors, generator=seeded())
    expected = mc_infonce_loss(*tensors, n_samples=4, temperature=0.25, generator=seeded())
    torch.testing.assert_close(loss, expected)
    (grad,) = torch.autograd.grad(loss, criterion.log_temperature)

    def loss_of(log_temperature):
        return mc_infonce_loss(
            *tensors, n_samples=4, temperature=log_temperature.exp(), generator=seeded()
        )

    start = torch.tensor(math.log(0.25), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss_of, start)
    torch.testing.assert_close(torch.autograd.grad(loss_of(start), start)[0], grad)
    assert "temperature=0.2" in repr(criterion)
    assert not list(MCInfoNCELoss().parameters())
    assert MCInfoNCELoss().temperature == 1 / 16

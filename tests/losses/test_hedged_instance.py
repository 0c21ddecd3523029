"""Hedged instance embeddings by the formula in loops, by quadrature, and at infinite kappa."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import FAMILIES, N, assert_same, unit
from stochastic import circle, inputs, others, samples, seeded
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, VonMisesFisher
from powerspherical_ext.losses import HedgedInstanceLoss, hedged_instance_loss


@pytest.mark.parametrize("name", FAMILIES)
def test_the_formula_in_loops(name):
    tensors, n_samples, n = inputs(4, name=name), 3, 4
    temperature, bias, weight = 0.3, -0.7, 0.01
    e = samples(*tensors, n_samples, name)
    law = FAMILIES[name](unit(torch.cat(tensors[:2])), torch.cat(tensors[2:]))
    kl = kl_divergence(law, HypersphericalUniform(12, dtype=torch.float64))
    losses = []
    for a in range(2 * n):
        match = [
            torch.sigmoid((e[:, a] * e[:, c]).sum(-1) / temperature + bias).mean()
            for c in others(a, n)
        ]
        unlike = torch.stack([(1 - p).log() for p in match[1:]]).mean()
        losses.append(-match[0].log() - unlike + weight * kl[a])
    published = torch.stack(losses).view(2, n)
    options = {
        "n_samples": n_samples,
        "temperature": temperature,
        "bias": bias,
        "kl_weight": weight,
        "distribution": name,
    }
    ours = hedged_instance_loss(*tensors, reduction="none", generator=seeded(), **options)
    torch.testing.assert_close(ours, published)
    ours = hedged_instance_loss(*tensors, generator=seeded(), **options)
    assert_same(ours, published.mean(), tensors)


@pytest.mark.slow
def test_quadrature_on_the_circle():
    """Many samples have the probabilities that integrals over two circles give, to some 4 standard
    errors of the gradient in kappa, and many more of the others."""
    tensors = inputs(3, 2)
    x = circle(200)
    loc, kappa = unit(torch.cat(tensors[:2])), torch.cat(tensors[2:])
    p = VonMisesFisher(loc, kappa).log_prob(x.unsqueeze(1)).exp() * 2 * math.pi / 200
    match = p.T @ torch.sigmoid(x @ x.T / 0.4 - 0.5) @ p
    losses = [
        -match[a, others(a, 3)[0]].log() - (1 - match[a, others(a, 3)[1:]]).log().mean()
        for a in range(6)
    ]
    published = torch.stack(losses).mean()
    ours = hedged_instance_loss(
        *tensors, n_samples=400_000, temperature=0.4, bias=-0.5, generator=seeded()
    )
    torch.testing.assert_close(ours, published, rtol=0.01, atol=0.0)
    grads = (torch.autograd.grad(y, tensors) for y in (ours, published))
    for a, b in zip(*grads, strict=True):
        assert (a - b).norm() < 0.1 * b.norm()


def test_at_infinite_kappa_it_is_the_pairwise_logistic_loss():
    z1, z2, *_ = inputs()
    kappa = torch.full((N,), 1e15, dtype=torch.float64)
    ours = hedged_instance_loss(z1, z2, kappa, kappa, temperature=0.3, bias=-1.0)
    mu = unit(torch.cat([z1, z2]))
    logits = mu @ mu.T / 0.3 - 1.0
    losses = [
        F.softplus(-logits[a, others(a, N)[0]]) + F.softplus(logits[a, others(a, N)[1:]]).mean()
        for a in range(2 * N)
    ]
    torch.testing.assert_close(ours, torch.stack(losses).mean(), rtol=1e-6, atol=1e-6)


def test_extreme_logits_are_finite():
    tensors = inputs(dtype=torch.float32)
    for temperature, bias in ((1e-4, 0.0), (0.1, -1e4), (0.1, 1e4)):
        loss = hedged_instance_loss(*tensors, temperature=temperature, bias=bias)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, tensors))


def test_one_image_has_no_others():
    loss = hedged_instance_loss(*inputs(1), reduction="none", generator=seeded())
    assert loss.shape == (2, 1)
    assert loss.isfinite().all()


def test_module_learns_temperature_and_bias():
    tensors = inputs()
    criterion = HedgedInstanceLoss(n_samples=4, temperature=0.5, bias=-2.0, kl_weight=1e-4).double()
    loss = criterion(*tensors, generator=seeded())
    options = {"n_samples": 4, "temperature": 0.5, "bias": -2.0, "kl_weight": 1e-4}
    expected = hedged_instance_loss(*tensors, generator=seeded(), **options)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert criterion.bias.grad != 0
    assert criterion.log_temperature.grad != 0
    fixed = HedgedInstanceLoss(learnable=False, **options)
    assert not list(fixed.parameters())
    torch.testing.assert_close(fixed(*tensors, generator=seeded()), expected)

"""Every method of the paper's Table 1, by its published formula, as a case of one objective."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import FAMILIES, D, N, assert_same, concentrations, features, unit
from scipy.special import ive
from torch import nn
from torch.distributions import Categorical, OneHotCategorical

from powerspherical_ext import PowerSpherical, VonMisesFisher
from powerspherical_ext.losses import (
    DINOLoss,
    barlow_twins_loss,
    cross_correlation,
    j_align,
    j_kl,
    j_uniform,
    nt_xent_loss,
    simclr_loss,
    simsiam_loss,
    vi_simclr_loss,
    vi_simsiam_loss,
)

# SimSiam: Claim 4.3


def test_simsiam_loss_is_the_published_one():
    p1, p2, z1, z2 = (features(N, D, seed=i) for i in range(4))
    cosine = nn.CosineSimilarity(dim=1)
    published = -(cosine(p1, z2.detach()).mean() + cosine(p2, z1.detach()).mean()) * 0.5
    assert_same((simsiam_loss(p1, z2) + simsiam_loss(p2, z1)) / 2, published, (p1, p2))
    # As lists: (p1, z2) and (p2, z1) are the pairs of different views.
    assert_same(simsiam_loss([p1, p2], [z1, z2]), published, (p1, p2))


def test_claim_4_3_alignment_at_constant_kappa_is_simsiam():
    kappa = 7.0
    p, z = features(N, D), features(N, D, seed=1)
    v = D / 2 - 1
    log_c = v * math.log(kappa) - D / 2 * math.log(2 * math.pi) - math.log(ive(v, kappa)) - kappa
    aligned = j_align(unit(z).detach(), VonMisesFisher(unit(p), kappa)).mean()
    published = F.cosine_similarity(p, z.detach()).mean()
    assert_same(aligned, published, (p,), factor=kappa, constant=log_c)
    assert_same(aligned, simsiam_loss(p, z), (p,), factor=-kappa, constant=log_c)


def test_a_point_mass_has_a_constant_kl():
    z = unit(features(N, D))
    torch.testing.assert_close(j_kl(z), torch.zeros(N, dtype=torch.float64))
    assert not j_kl(z.detach()).requires_grad


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


# VI-SimSiam and VI-SimCLR


@pytest.mark.parametrize(("n_preds", "n_targets"), [(2, 2), (4, 2), (3, 3)])
def test_vi_simsiam_is_alignment_under_a_power_spherical(n_preds, n_targets):
    preds = [features(N, D, seed=i) for i in range(n_preds)]
    targets = [features(N, D, seed=10 + i) for i in range(n_targets)]
    kappas = [concentrations(N, seed=i) for i in range(n_preds)]
    q = [unit(z).detach() for z in targets]
    p = [PowerSpherical(unit(m), k) for m, k in zip(preds, kappas, strict=True)]
    loss = vi_simsiam_loss(preds, targets, kappas, relative_to_uniform=False)
    assert_same(j_align(q, p).mean(), loss, (*preds, *kappas), factor=-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_is_alignment_and_uniformity(name):
    p, z, kappa = features(N, D), features(N, D, seed=1), concentrations(N)
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
    for kappa in (0.01, 1.0, 1e4):
        loss = vi_simclr_loss(same, same, torch.full((N,), kappa), distribution=name)
        assert loss.item() == pytest.approx(math.log(N), abs=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_is_finite_at_the_antipode(name):
    z = unit(features(N, D, dtype=torch.float32)).detach()
    pred, kappa = (-z).requires_grad_(), torch.full((N,), 1e4, requires_grad=True)
    loss = vi_simclr_loss(pred, z, kappa, distribution=name)
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, (pred, kappa)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
def test_vi_simclr_in_float32_at_the_papers_size(name):
    z = features(32, 2048)
    pred = (z + 0.5 * features(32, 2048, seed=1)).detach().requires_grad_()
    kappa = (100 * concentrations(32)).detach().requires_grad_()
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


# DINO: Claims 4.7 to 4.9


def dino_published(student, teacher, center, student_temp=0.1, teacher_temp=0.04):
    """DINO's own double loop."""
    total, terms = 0.0, 0
    for i, t in enumerate(teacher):
        q = F.softmax((t.detach() - center) / teacher_temp, dim=-1)
        for j, s in enumerate(student):
            if i != j:
                total = total + (-q * F.log_softmax(s / student_temp, dim=-1)).sum(-1).mean()
                terms += 1
    return total / terms


@pytest.mark.parametrize("n_crops", [2, 8])
def test_claim_4_7_alignment_of_categoricals_is_dino(n_crops):
    student = [features(N, D, seed=i) for i in range(n_crops)]
    teacher = [x.detach() for x in student[:2]]
    criterion = DINOLoss(D).double()
    criterion.center += features(D, seed=50).detach()
    published = dino_published(student, teacher, criterion.center.clone())
    q = [OneHotCategorical(logits=(t - criterion.center) / 0.04) for t in teacher]
    p = [OneHotCategorical(logits=s / 0.1) for s in student]
    assert_same(j_align(q, p).mean(), published, student, factor=-1)
    assert_same(criterion(student, teacher), published, student)


def test_dino_alignment_survives_sharpened_zeros():
    """log p is -200 here, and exp of it 0 in float32: torch's own divergence is infinite."""
    q = Categorical(logits=torch.tensor([[0.0, 1.0]]))
    p = Categorical(logits=torch.tensor([[200.0, 0.0]]))
    assert j_align(q, p).item() == pytest.approx(-200 * math.e / (1 + math.e), rel=1e-6)


def test_claim_4_8_centering_raises_uniformity():
    raw = features(64, D).detach() + 3 * features(1, D, seed=1).detach()
    criterion = DINOLoss(D, center_momentum=0.0).double()
    criterion([raw, raw], [raw, raw])
    torch.testing.assert_close(criterion.center, raw.mean(0))

    def uniformity(center):
        q = Categorical(logits=(raw - center) / 0.5)
        return j_uniform(q, q).mean()  # H of the marginal

    assert uniformity(criterion.center) > uniformity(torch.zeros(D)) + 0.5
    assert uniformity(criterion.center) < math.log(D)
    every = Categorical(probs=torch.eye(D))
    assert j_uniform(every, every).mean().item() == pytest.approx(math.log(D), rel=1e-5)


def test_the_center_is_the_published_moving_average():
    criterion, expected = DINOLoss(D, center_momentum=0.9), torch.zeros(1, D)
    for step in range(4):
        teacher = features(2 * N, D, seed=step, dtype=torch.float32).detach()
        expected = expected * 0.9 + 0.1 * teacher.sum(0, keepdim=True) / len(teacher)
        criterion(teacher.chunk(2), teacher.chunk(2))
    torch.testing.assert_close(criterion.center, expected[0])
    assert "center" in criterion.state_dict()
    criterion.eval()
    criterion(teacher.chunk(2), teacher.chunk(2))
    torch.testing.assert_close(criterion.center, expected[0])


def test_claim_4_9_sharpening_sets_the_kl():
    logits = features(N, D).detach()
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    p = F.softmax(logits / temperature, -1)
    published = (-(p * p.log()).sum(-1)).mean()  # the entropy
    objective = j_kl(Categorical(logits=logits / temperature)).mean()
    assert_same(objective, published, (temperature,), constant=-math.log(D))
    # dH/dtau = Var_P(logits) / tau^3 > 0: sharpening always lowers J_KL.
    (slope,) = torch.autograd.grad(objective, temperature)
    p = p.detach()
    variance = (p * logits**2).sum(-1) - (p * logits).sum(-1) ** 2
    torch.testing.assert_close(slope, (variance / temperature.detach() ** 3).mean())


# Barlow Twins: section 4.4


def test_barlow_twins_is_the_published_one():
    z1, z2 = features(N, D), features(N, D, seed=1)
    bn = nn.BatchNorm1d(D, affine=False).double()
    c = bn(z1).T @ bn(z2) / N
    on_diag = (torch.diagonal(c) - 1).pow(2).sum()
    off_diag = c.flatten()[:-1].view(D - 1, D + 1)[:, 1:].pow(2).sum()
    published = on_diag + 0.0051 * off_diag
    assert_same(barlow_twins_loss(z1, z2, redundancy_weight=0.0051), published, (z1, z2))


def test_barlow_twins_diagonal_is_alignment():
    """The trace of C is the mean dot product of the standardised views: J_align at kappa = 1."""
    z1, z2 = features(50, D), features(50, D, seed=1)
    bn = nn.BatchNorm1d(D, affine=False).double()
    assert_same(cross_correlation(z1, z2).trace(), (bn(z1) * bn(z2)).sum(-1).mean(), (z1, z2))


def test_barlow_twins_sees_redundancy_beside_a_perfect_diagonal():
    z = features(200, D, dtype=torch.float32).detach()
    white = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov(correction=0))).T
    redundant = torch.cat([white[:, :1], white[:, :1], white[:, 2:]], 1)
    assert barlow_twins_loss(white, white).item() < 1e-4
    assert barlow_twins_loss(redundant, redundant).item() == pytest.approx(2 * 5e-3, rel=1e-3)

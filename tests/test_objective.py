"""Every method of the paper's Table 1 as a case of one objective: values and gradients against the
method's own published formula, written out here; several processes; bad input."""

from __future__ import annotations

import itertools
import math
import os
import socket
import sys

import pytest
import torch
import torch.nn.functional as F
from scipy.special import ive
from torch import nn
from torch.distributions import Categorical, OneHotCategorical, kl_divergence

from powerspherical_ext import HypersphericalUniform, PowerSpherical, VonMisesFisher
from powerspherical_ext.losses import (
    DINOLoss,
    barlow_twins_loss,
    cross_correlation,
    expected_log_prob,
    j_align,
    j_kl,
    j_uniform,
    log_renormalizer,
    nt_xent_loss,
    simclr_loss,
    simsiam_loss,
    vi_simclr_loss,
    vi_simsiam_loss,
)

N, D = 7, 12
FAMILIES = {"power_spherical": PowerSpherical, "von_mises_fisher": VonMisesFisher}


def features(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def concentrations(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(100 + seed)
    return (5 + 40 * torch.rand(shape, generator=generator, dtype=dtype)).requires_grad_()


def unit(x):
    return F.normalize(x, dim=-1)


def assert_same(ours, published, inputs, factor=1.0, constant=0.0):
    """ours = factor * published + constant, and the gradients accordingly; none is zero."""
    torch.testing.assert_close(ours, factor * published + constant)
    gradients = (torch.autograd.grad(x, inputs, retain_graph=True) for x in (ours, published))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, factor * b)
        assert a.abs().max() > 1e-8


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


@pytest.mark.parametrize("families", list(itertools.product(FAMILIES, FAMILIES)), ids="-".join)
def test_samples_estimate_the_closed_form_and_its_gradient(families):
    """20,000 samples. Each of 12 means lies within 5 of its own standard errors, of 50 batches:
    by Student's t of 49 degrees of freedom a right one fails in 1e-4 of all seeds."""
    d = 4
    kappa_q = torch.tensor([3.0, 12.0], dtype=torch.float64, requires_grad=True)
    loc_q, loc_p = features(2, d), unit(features(2, d, seed=1)).detach()
    q = FAMILIES[families[0]](unit(loc_q), kappa_q)
    p = FAMILIES[families[1]](loc_p, torch.tensor([8.0, 2.0], dtype=torch.float64))

    def value_and_slopes(n_samples):
        value = expected_log_prob(q, p, n_samples=n_samples)
        slopes = torch.autograd.grad(value.sum(), (loc_q, kappa_q), retain_graph=True)
        return torch.cat([x.detach().flatten() for x in (value, *slopes)])

    torch.manual_seed(0)
    estimates = torch.stack([value_and_slopes(400) for _ in range(50)])
    error = estimates.std(0) / math.sqrt(50)
    assert ((estimates.mean(0) - value_and_slopes(0)).abs() < 5 * error).all()
    assert (error < 0.05).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_narrow_q_is_a_point_mass(name):
    z, p = unit(features(N, D)), VonMisesFisher(unit(features(N, D, seed=1)), 6.0)
    narrow = FAMILIES[name](z, 1e7)
    torch.testing.assert_close(expected_log_prob(narrow, p), p.log_prob(z), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_kl_of_a_stochastic_q(name):
    views = [FAMILIES[name](unit(features(N, D, seed=i)), concentrations(N)) for i in range(2)]
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
    inputs = features(8, 2048), features(8, 2048, seed=1), concentrations(8), concentrations(8)

    def objective(z, pred, kappa_q, kappa_p):
        q = FAMILIES[name](unit(z), 100 * kappa_q)
        p = FAMILIES[name](unit(pred + z), 100 * kappa_p)
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


# Views


@pytest.mark.parametrize(("n_preds", "n_targets"), [(2, 2), (8, 2), (3, 1)])
def test_lists_are_the_mean_over_the_pairs_that_differ(n_preds, n_targets):
    preds = [features(N, D, seed=i) for i in range(n_preds)]
    targets = [features(N, D, seed=20 + i) for i in range(n_targets)]
    kappas = [concentrations(N, seed=i) for i in range(n_preds)]
    pairs = [(i, j) for i in range(n_preds) for j in range(n_targets) if i != j]
    for criterion in (simsiam_loss, simclr_loss):
        expected = torch.stack([criterion(preds[i], targets[j]) for i, j in pairs])
        torch.testing.assert_close(criterion(preds, targets), expected.mean())
        each = criterion(tuple(preds), tuple(targets), reduction="none")
        assert each.shape == (len(pairs), N)
        torch.testing.assert_close(each.mean(1), expected)
    expected = [vi_simclr_loss(preds[i], targets[j], kappas[i]) for i, j in pairs]
    torch.testing.assert_close(vi_simclr_loss(preds, targets, kappas), torch.stack(expected).mean())


# Types


def two_views(criterion):
    """criterion of two float tensors (N, D), whichever it is."""
    if criterion == "dino":
        return DINOLoss(D)
    if criterion == "vi_simclr":
        return lambda a, b: vi_simclr_loss(a, b, torch.full((N,), 5.0))
    return {
        "simsiam": simsiam_loss,
        "simclr": simclr_loss,
        "nt_xent": nt_xent_loss,
        "barlow_twins": barlow_twins_loss,
    }[criterion]


CRITERIA = ("simsiam", "simclr", "vi_simclr", "nt_xent", "dino", "barlow_twins")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_half_precision_and_autocast_are_computed_in_float32(criterion):
    a, b = (features(N, D, seed=i, dtype=torch.float32).bfloat16().detach() for i in range(2))
    expected = two_views(criterion)(a.float(), b.float())
    assert two_views(criterion)(a, b).item() == expected.item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = two_views(criterion)(a, b)
    assert loss.item() == expected.item()
    assert loss.dtype == torch.float32


# Dynamo itself instantiates the autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("criterion", CRITERIA)
def test_compiles_without_a_graph_break(criterion):
    a, b = (features(N, D, seed=i, dtype=torch.float32) for i in range(2))
    compiled = torch.compile(two_views(criterion), backend="aot_eager", fullgraph=True)
    assert_same(compiled(a, b), two_views(criterion)(a, b), (a,))


# Several processes


def losses_of(part, gather):
    """All that compares samples, on a part of the batch; the sum's gradient tells them apart."""
    z1, z2, kappa = part
    return (
        simclr_loss(z1, z2, gather=gather)
        + 2 * vi_simclr_loss([z1, z2], [z1, z2], [kappa, kappa], gather=gather)
        + 3 * nt_xent_loss(z1, z2, gather=gather)
        + 4 * barlow_twins_loss(z1, z2, gather=gather)
    )


def linear_and_batch():
    torch.manual_seed(0)
    return nn.Linear(6, 9).double(), torch.randn(8, 6).double(), torch.randn(8, 6).double()


def step(model, x1, x2, gather):
    out1, out2 = model(x1), model(x2)
    part = out1[:, :8], out2[:, :8], 5 + F.softplus(out1[:, 8])
    losses_of(part, gather).backward()


def worker(rank, port, queue):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model, *data = linear_and_batch()
    parallel = nn.parallel.DistributedDataParallel(model)
    step(parallel, *(x.chunk(2)[rank] for x in data), gather=True)
    criterion = DINOLoss(6).double()
    x = data[0].chunk(2)[rank]
    criterion([x, x], [x, x])
    try:
        simclr_loss(x[: 4 - rank], x[: 4 - rank], gather=True)
        message = "nothing was raised"
    except ValueError as error:
        message = str(error)
    gradients = [p.grad.tolist() for p in model.parameters()]
    queue.put((rank, gradients, criterion.center.tolist(), message))
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="gloo on localhost is for Linux and macOS")
def test_two_processes_are_as_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=worker, args=(rank, port, queue)) for rank in range(2)]
    for process in workers:
        process.start()
    results = {rank: rest for rank, *rest in (queue.get(timeout=120) for _ in workers)}
    for process in workers:
        process.join()

    model, *data = linear_and_batch()
    step(model, *data, gather=False)
    for gradients, center, message in results.values():
        for ours, parameter in zip(gradients, model.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(ours).double(), parameter.grad)
        torch.testing.assert_close(torch.tensor(center).double(), 0.1 * data[0].mean(0))
        assert "as many samples, got [4, 3]" in message


# Bad input


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
K = torch.full((4,), 5.0)
NAN = torch.full_like(X, math.nan)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: simsiam_loss(X, X[:3]), ValueError, r"target .*\(4, 3\) of pred, got \(3, 3\)"),
        (lambda: simsiam_loss(NAN, X), ValueError, "pred must be finite, got NaN"),
        (lambda: simsiam_loss(X, NAN), ValueError, "target must be finite, got NaN"),
        (lambda: simsiam_loss([X], [X]), ValueError, "pred .*two views or more, got 1"),
        (lambda: simsiam_loss([X, X], [X] * 3), ValueError, "target .*1 to 2 .*got 3"),
        (lambda: simsiam_loss([X, X], []), ValueError, "target .*1 to 2 .*got 0"),
        (lambda: simsiam_loss([X, X], X), TypeError, "two lists.*got Tensor for target"),
        (lambda: simsiam_loss(X.long(), X), TypeError, "pred .*floating-point.*int64"),
        (lambda: simsiam_loss(X, X.to("meta")), ValueError, "target .*device of pred.*meta"),
        (lambda: simsiam_loss(X[0], X[0]), ValueError, r"pred .*\(N, d\).*got \(3,\)"),
        (lambda: simsiam_loss(X[:0], X[:0]), ValueError, r"N >= 1 .*got \(0, 3\)"),
        (lambda: simsiam_loss(X, X.clone().requires_grad_()), ValueError, "first two swapped"),
        (lambda: DINOLoss(3)(X, X.clone().requires_grad_()), ValueError, "first two swapped"),
        (lambda: simsiam_loss(X, X, reduction="max"), ValueError, "reduction .*got 'max'"),
        (lambda: simclr_loss(X, X, temperature=0.0), ValueError, "temperature .*got 0.0"),
        (lambda: simclr_loss(NAN, X), ValueError, "pred must be finite"),
        (lambda: nt_xent_loss(X, X, temperature=-1), ValueError, "temperature .*got -1"),
        (lambda: nt_xent_loss(X, NAN), ValueError, "z2 must be finite"),
        (lambda: vi_simclr_loss(X, X, -K), ValueError, "kappa must be > 0, got -5"),
        (lambda: vi_simclr_loss(X, X, K * math.nan), ValueError, "kappa must be finite"),
        (lambda: vi_simclr_loss(X, X, K[:3]), ValueError, r"kappa .*\(4,\) or \(4, 1\).*\(3,\)"),
        (lambda: vi_simclr_loss(X, X, [K]), TypeError, "kappa .*got list beside Tensor"),
        (lambda: vi_simclr_loss([X, X], [X, X], [K]), ValueError, "kappa .*2, got 1"),
        (lambda: vi_simclr_loss(X, X, K, distribution="normal"), ValueError, "got 'normal'"),
        (lambda: barlow_twins_loss(X[:1], X[:1]), ValueError, "two samples or more, got 1"),
        (lambda: barlow_twins_loss(X, NAN), ValueError, "z2 must be finite"),
        (lambda: barlow_twins_loss(X, X, redundancy_weight=-1), ValueError, "got -1"),
        (lambda: DINOLoss(1), ValueError, "dim must be at least 2, got 1"),
        (lambda: DINOLoss(3, target_temperature=0), ValueError, "target_temperature .*got 0"),
        (lambda: DINOLoss(3, center_momentum=2), ValueError, "center_momentum .*got 2"),
        (lambda: DINOLoss(4)(X, X), ValueError, r"pred .*\(N, 4\), got \(4, 3\)"),
        (lambda: DINOLoss(3)(X, NAN), ValueError, "target must be finite"),
        (lambda: DINOLoss(3)([X], [X]), ValueError, "two views or more, got 1"),
        (lambda: j_align([P], [P]), ValueError, "p must hold two views or more, got 1"),
        (lambda: j_align([P] * 3, [P] * 2), ValueError, "q must hold 1 to 2 views.*got 3"),
        (lambda: j_align(P, [P, P]), TypeError, "got VonMisesFisher and list"),
        (lambda: j_align([P, 1.0], [P, P]), TypeError, "q must be a tensor or .*got float"),
        (lambda: j_align([X, X], [P, X]), TypeError, "p must be a distribution, got Tensor"),
        (lambda: j_align(X[:3], P), ValueError, r"q must have the batch shape \(4,\).*got \(3,\)"),
        (lambda: j_align(X[0], VonMisesFisher(X[0] / X[0].norm(), 1.0)), ValueError, "one batch"),
        (lambda: j_align(X, P), ValueError, "within the support"),
        (lambda: j_align(NAN, P), ValueError, "within the support"),
        (lambda: j_align(P, P, n_samples=-1), ValueError, "n_samples must be 0 or more, got -1"),
        (lambda: j_uniform(P, P, n_samples=0), ValueError, "n_samples must be 1 or more, got 0"),
        (lambda: j_kl(P), ValueError, "prior must be given"),
        (lambda: j_kl([]), ValueError, "q must hold one view or more"),
        (lambda: j_kl("z"), TypeError, "q must be a tensor or a distribution, got str"),
        (lambda: log_renormalizer(P, PowerSpherical(P.loc, 1.0)), TypeError, "PowerSpherical"),
        (lambda: log_renormalizer(), ValueError, "at least one expert"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


P = VonMisesFisher(unit(X), K)

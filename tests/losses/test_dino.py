"""DINO by its published formula, as a case of one objective."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import D, N, assert_same, features
from torch.distributions import Categorical, OneHotCategorical

from powerspherical_ext.losses import (
    DINOLoss,
    j_align,
    j_kl,
    j_uniform,
)


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

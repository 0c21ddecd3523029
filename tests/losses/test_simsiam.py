"""SimSiam by its published formula, as a case of one objective."""

from __future__ import annotations

import math

import torch.nn.functional as F
from loss_inputs import D, N, assert_same, features, unit
from scipy.special import ive
from torch import nn

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.losses import (
    j_align,
    simsiam_loss,
)


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

"""Barlow Twins by its published formula, and its part in the objective."""

from __future__ import annotations

import pytest
import torch
from loss_inputs import D, N, assert_same, features
from torch import nn

from powerspherical_ext.losses import (
    barlow_twins_loss,
    cross_correlation,
)


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

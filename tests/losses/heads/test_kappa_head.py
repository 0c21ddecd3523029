"""KappaHead: Appendix B of the paper, its types, and what it learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from powerspherical_ext import PowerSpherical
from powerspherical_ext.losses import (
    KappaHead,
    VISimSiamLoss,
)


@pytest.mark.parametrize("settings", [{}, {"parametrization": "softplus_d", "dim": 128}], ids=str)
def test_kappa_head_is_appendix_b(settings):
    torch.manual_seed(0)
    head = KappaHead(16, 32, **settings)
    kinds = (nn.Linear, nn.BatchNorm1d, nn.ReLU)
    assert all(isinstance(layer, kind) for layer, kind in zip(head.hidden, kinds, strict=True))
    y = torch.randn(8, 16)
    expected = F.softplus(head.out(head.hidden(y))).squeeze(-1)
    kappa = head(y)
    assert kappa.shape == (8,)
    torch.testing.assert_close(kappa, 127 * expected if settings else expected)
    assert head(torch.randn(3, 4, 16)).shape == (3, 4)


def test_kappa_head_stays_in_float32():
    head, y = KappaHead(16, 32).eval(), torch.randn(8, 16)
    expected = head(y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(y), expected)
        assert head(y.bfloat16()).dtype == torch.float32
    assert head.double()(y.double()).dtype == torch.float64
    for dtype in (torch.bfloat16, torch.float16):
        assert head.to(dtype)(y.to(dtype)).dtype == torch.float32


def test_kappa_head_is_positive_where_softplus_underflows():
    head = KappaHead(16, 32).eval()
    torch.nn.init.constant_(head.out.bias, -1e4)
    assert (head(torch.randn(8, 16)) > 0).all()


def test_kappa_head_learns_the_spread_of_the_targets():
    """Three kinds of input with targets of known kappa: the head finds the three numbers."""
    torch.manual_seed(0)
    d, truth = 16, torch.tensor([5.0, 40.0, 150.0])
    kind = torch.arange(3).repeat_interleave(2000)
    mu = F.normalize(torch.randn(len(kind), d), dim=-1)
    z = PowerSpherical(mu, truth[kind]).sample()
    y = F.one_hot(kind, 3).float()
    head = KappaHead(3, 16, "softplus_d", dim=d)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        VISimSiamLoss()(mu, z, head(y)).backward()
        optimizer.step()
    found = torch.stack([head(y)[kind == i].mean() for i in range(3)])
    torch.testing.assert_close(found, truth, rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parametrization": "exp"}, "parametrization must be one of .*got 'exp'"),
        ({"parametrization": "softplus_d"}, "needs dim.*got None"),
        ({"parametrization": "softplus_d", "dim": 1}, "needs dim.*got 1"),
        ({"dim": 128}, "dim is used by .*got dim=128"),
        ({"hidden_features": 0}, "hidden_features must be at least 1, got 0"),
    ],
)
def test_kappa_head_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        KappaHead(16, **settings)


def test_kappa_head_bad_input():
    head = KappaHead(16, 32)
    with pytest.raises(ValueError, match=r"y must have shape \(\.\.\., 16\), got \(8, 15\)"):
        head(torch.randn(8, 15))
    with pytest.raises(TypeError, match=r"y must be a floating-point tensor, got torch\.int64"):
        head(torch.ones(8, 16, dtype=torch.int64))

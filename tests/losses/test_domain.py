"""The domain of a concentration: what KappaHead maps into, what the losses check and refuse."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.distributions.constraints import half_open_interval

from powerspherical_ext.families import FAMILIES
from powerspherical_ext.losses import KappaHead, VISimSiamHead, _domain, vi_simsiam
from powerspherical_ext.losses.heads import kappa_head

BOUNDED = dataclasses.replace(FAMILIES[0], name="bounded", concentration=half_open_interval(0, 1))
each_family = pytest.mark.parametrize("family", [*FAMILIES, BOUNDED], ids=lambda f: f.name)


@pytest.fixture
def bounded(monkeypatch):
    """The name of a family whose concentration lies in [0, 1)."""
    for module in (kappa_head, vi_simsiam):
        monkeypatch.setattr(module, "family_named", lambda name: BOUNDED)
    return BOUNDED.name


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_number_is_mapped_inside(dtype, family):
    s = torch.tensor([-1e30, -1e4, -100, -1, 0, 1, 17, 40, 1e4, 1e30], dtype=dtype)
    kappa = _domain.into_domain(s, family)
    assert kappa.dtype == dtype
    _domain.check_inside(kappa, family)
    assert bool(family.concentration.check(kappa).all())
    assert (kappa.diff() >= 0).all()
    assert (kappa[3:6].diff() > 0).all()
    assert kappa.diff()[-1] >= 0
    assert _domain.into_domain(torch.tensor(math.nan, dtype=dtype), family).isnan()


def test_the_last_number_of_a_bounded_domain():
    for dtype in (torch.float32, torch.float64):
        last = _domain.into_domain(torch.tensor(1e4, dtype=dtype), BOUNDED)
        assert last == torch.nextafter(torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype))


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
@each_family
def test_a_concentration_that_is_not_positive(value, family):
    with pytest.raises(ValueError, match=f"kappa must be > 0 and not NaN, got {value}"):
        _domain.check_inside(torch.tensor([0.5, value]), family)


def test_a_concentration_at_the_bound():
    _domain.check_inside(torch.tensor([0.5, 0.999]), BOUNDED)
    message = r"kappa must be < 1 for distribution='bounded', got 1\.0: .*sigmoid"
    with pytest.raises(ValueError, match=message):
        _domain.check_inside(torch.tensor([0.5, 1.0]), BOUNDED)


@pytest.mark.parametrize("settings", [{}, {"parametrization": "softplus_d", "dim": 128}], ids=str)
def test_heads_of_a_bounded_concentration_end_in_a_sigmoid(bounded, settings):
    head, y = KappaHead(16, 32, distribution=bounded, **settings).eval(), torch.randn(8, 16)
    s = head.out(head.hidden(y)).squeeze(-1)
    torch.testing.assert_close(head(y), torch.sigmoid(s))
    out = VISimSiamHead(16, dim=8, distribution=bounded)(y)
    assert ((out.kappa > 0) & (out.kappa < 1)).all()


def test_options_that_a_bounded_concentration_does_not_take(bounded):
    with pytest.raises(ValueError, match=r"kappa_max must be None .*below 1 already, got 0\.5"):
        vi_simsiam.VISimSiamLoss(distribution=bounded, kappa_max=0.5)
    with pytest.raises(ValueError, match=r"beta_weighs must be 'cosine' .*got 'loss'"):
        vi_simsiam.VISimSiamLoss(distribution=bounded, beta_weighs="loss")
    vi_simsiam.VISimSiamLoss(distribution=bounded, beta=0.5)


def test_an_unknown_distribution():
    for head in (KappaHead, VISimSiamHead):
        with pytest.raises(ValueError, match=r"distribution must be one of .*got 'normal'"):
            head(16, distribution="normal")

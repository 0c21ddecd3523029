"""The domain of a concentration: what KappaHead maps into, what the losses check and refuse."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch
from torch.distributions.constraints import half_open_interval

from powerspherical_ext.distributions.transform_to import into_domain
from powerspherical_ext.families import FAMILIES
from powerspherical_ext.losses import KappaHead, VISimSiamHead, _domain, vi_simsiam
from powerspherical_ext.losses.heads import kappa_head

BOUNDED = dataclasses.replace(
    FAMILIES[0], name="bounded", concentration=half_open_interval(0.0, 1.0)
)
each_family = pytest.mark.parametrize("family", [*FAMILIES, BOUNDED], ids=lambda f: f.name)


@pytest.fixture
def bounded(monkeypatch):
    """The name of a family whose concentration lies in [0, 1)."""
    for module in (kappa_head, vi_simsiam):
        monkeypatch.setattr(module, "family_named", lambda name: BOUNDED)
    return BOUNDED.name


@each_family
@pytest.mark.parametrize("scale", [1, 2047, 1e9])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_every_number_is_mapped_inside(dtype, scale, family):
    ends = [-math.inf, -1e30, -1e4, -100, -1, 0, 1, 17, 40, 1e4, 1e15, 1e30, 1e300, math.inf]
    s = torch.tensor(ends, dtype=torch.float64).to(dtype)
    kappa = into_domain(s, family.upper_bound, scale)
    assert kappa.dtype == dtype
    _domain.check_inside(kappa, family)
    assert bool(family.concentration.check(kappa).all())
    assert family.inside(kappa).isfinite().all()
    assert (kappa.diff() >= 0).all()
    assert (kappa[4:7].diff() > 0).all() or dtype is torch.float16  # which overflows
    assert into_domain(torch.tensor(math.nan, dtype=dtype), family.upper_bound).isnan()


@each_family
def test_the_last_number_of_a_domain(family):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        last = into_domain(torch.tensor(1e30, dtype=dtype), family.upper_bound)
        end = torch.tensor(family.upper_bound, dtype=dtype)
        assert last == torch.nextafter(end, torch.zeros_like(end))


@each_family
@pytest.mark.parametrize("settings", [{}, {"parametrization": "softplus_d", "dim": 2048}], ids=str)
@pytest.mark.parametrize("size", [1e4, 1e30, math.inf])
def test_no_head_leaves_the_domain(family, settings, size, monkeypatch):
    """Neither in float32, which half precision modules compute in, nor in float64."""
    monkeypatch.setattr(kappa_head, "family_named", lambda name: family)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        for sign in (1, -1):
            head = KappaHead(16, 32, **settings).eval().to(dtype)
            torch.nn.init.constant_(head.out.bias, sign * min(size, torch.finfo(dtype).max))
            kappa = head(torch.randn(8, 16, dtype=dtype))
            assert family.concentration.check(kappa).all()
            assert (kappa > 0).all()


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
@each_family
def test_a_concentration_that_is_not_positive(value, family):
    with pytest.raises(ValueError, match=f"kappa must be > 0 and not NaN, got {value}"):
        _domain.check_inside(torch.tensor([0.5, value]), family)


@each_family
def test_a_concentration_at_the_bound(family):
    end = torch.tensor(family.upper_bound)
    _domain.check_inside(torch.stack([0.5 * end, torch.nextafter(end, 0 * end)]), family)
    number = re.escape(f"{family.upper_bound:g}")
    head = "sigmoid" if family.is_bounded else "softplus, and clamp it"
    for wrong in (end, 2 * end, torch.inf * end):
        message = rf"kappa must be < {number} for distribution='{family.name}', got .*: .*{head}"
        with pytest.raises(ValueError, match=message):
            _domain.check_inside(torch.stack([0.5 * end, wrong]), family)


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

"""The options of vi_simsiam_loss: distribution, beta, kappa_max, and what it says of bad values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from powerspherical_ext import PowerSpherical, VonMisesFisher
from powerspherical_ext.losses import VISimSiamLoss, vi_simsiam_loss


def views(*shape, dtype=torch.float64, seed=0):
    """pred, target and kappa, each a leaf."""
    generator = torch.Generator().manual_seed(seed)
    target, noise = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    kappa = 3 * shape[-1] * torch.rand(shape[:-1], generator=generator, dtype=dtype)
    return [x.requires_grad_() for x in (2 * target + noise, target, kappa)]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(
    ("name", "family"), [("power_spherical", PowerSpherical), ("von_mises_fisher", VonMisesFisher)]
)
def test_distribution(name, family, relative):
    pred, target, kappa = views(6, 12)
    mu, z = F.normalize(pred, dim=-1), F.normalize(target, dim=-1)
    expected = -family(mu, kappa).log_prob(z)
    if relative:
        expected = expected + family(mu, 0 * kappa).log_prob(z)
    for reduction in ("none", "mean", "sum"):
        loss = vi_simsiam_loss(
            pred,
            target,
            kappa,
            distribution=name,
            relative_to_uniform=relative,
            reduction=reduction,
            detach_target=False,
        )
        reduced = expected if reduction == "none" else getattr(expected, reduction)()
        torch.testing.assert_close(loss, reduced)
        grads = (
            torch.autograd.grad(x.sum(), (pred, target, kappa), retain_graph=True)
            for x in (loss, reduced)
        )
        torch.testing.assert_close(*grads)


def test_beta_one_has_the_gradients_of_simsiam():
    """Of von Mises-Fisher: d loss/d mu is that of -cosine, whatever kappa."""
    pred, target, kappa = views(6, 12)
    loss = vi_simsiam_loss(pred, target, kappa, distribution="von_mises_fisher", beta=1)
    simsiam = -F.cosine_similarity(pred, target.detach(), dim=-1).mean()
    (ours,), (theirs,) = (torch.autograd.grad(x, pred, retain_graph=True) for x in (loss, simsiam))
    torch.testing.assert_close(ours, theirs)
    plain = vi_simsiam_loss(pred, target, kappa, distribution="von_mises_fisher")
    torch.testing.assert_close(loss, plain)
    grads = (torch.autograd.grad(x, kappa) for x in (loss, plain))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_beta_may_weigh_the_whole_loss(reduction, relative):
    pred, target, kappa = views(6, 12)
    options = {"reduction": "none", "relative_to_uniform": relative}
    each = vi_simsiam_loss(pred, target, kappa, **options)
    weighted = kappa.detach().clamp(min=1) ** -0.5 * each
    expected = weighted if reduction == "none" else getattr(weighted, reduction)()
    options["reduction"] = reduction
    loss = vi_simsiam_loss(pred, target, kappa, beta=0.5, beta_weighs="loss", **options)
    torch.testing.assert_close(loss, expected)
    upstream = torch.rand(loss.shape, dtype=loss.dtype)
    grads = (torch.autograd.grad(x, (pred, kappa), upstream) for x in (loss, expected))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_of_the_list_form(reduction, relative):
    """Those of a prediction with several targets add; each kappa serves all pairs of its view."""
    crops = [views(4, 8, seed=seed) for seed in range(4)]
    preds, targets, kappas = ([crop[part] for crop in crops] for part in range(3))
    options = {"relative_to_uniform": relative, "beta": 0.5, "detach_target": False}
    each = vi_simsiam_loss(preds, targets[:2], kappas, reduction="none", **options)
    loss = vi_simsiam_loss(preds, targets[:2], kappas, reduction=reduction, **options)
    expected = getattr(each, reduction)()
    torch.testing.assert_close(loss, expected)
    leaves = [*preds, *targets[:2], *kappas]
    grads = (torch.autograd.grad(x, leaves) for x in (loss, expected))
    torch.testing.assert_close(*grads)


def test_kappa_max_bounds_the_loss_and_keeps_a_slope():
    pred = torch.randn(5, 16, dtype=torch.float64)
    kappa = torch.tensor([0.01, 1.0, 100.0, 1e4, 1e7], dtype=torch.float64, requires_grad=True)
    bounded = vi_simsiam_loss(pred, pred, kappa, kappa_max=50.0, reduction="none")
    limit = torch.full_like(kappa, 50.0)
    least = vi_simsiam_loss(pred, pred, limit, reduction="none")
    assert (bounded >= least - 1e-9).all()
    assert (bounded.diff() < 0).all()
    (slope,) = torch.autograd.grad(bounded.sum(), kappa)
    assert (slope < 0).all()
    free = vi_simsiam_loss(pred, pred, kappa, kappa_max=7e7, reduction="none")
    torch.testing.assert_close(
        free, vi_simsiam_loss(pred, pred, kappa, reduction="none"), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_with_half_precision_views_and_float32_kappa(dtype):
    """What a network under autocast hands over; gradients come back in the views' type."""
    pred, target, _ = (x.detach().to(dtype) for x in views(6, 64))
    pred.requires_grad_()
    kappa = torch.full((6,), 853.0, requires_grad=True)
    expected = vi_simsiam_loss(pred.double(), target.double(), kappa.double())
    with torch.autocast("cpu", dtype):
        loss = vi_simsiam_loss(pred, target, kappa)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    grads = (torch.autograd.grad(x, (pred, kappa)) for x in (loss, expected))
    for ours, exact in zip(*grads, strict=True):
        assert ours.dtype == exact.dtype
        torch.testing.assert_close(ours, exact, rtol=2e-2, atol=1e-5)


def test_the_module_passes_every_option_on():
    pred, target, kappa = views(6, 12)
    options = {
        "distribution": "von_mises_fisher",
        "beta": 0.5,
        "beta_weighs": "loss",
        "kappa_max": 20.0,
        "reduction": "sum",
        "relative_to_uniform": False,
        "detach_target": False,
        "check_kappa": False,
    }
    criterion = VISimSiamLoss(**options)
    torch.testing.assert_close(
        criterion(pred, target, kappa), vi_simsiam_loss(pred, target, kappa, **options)
    )
    for name in ("distribution='von_mises_fisher'", "beta=0.5", "kappa_max=20.0"):
        assert name in repr(criterion)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution": "vmf"}, "distribution must be one of .*got 'vmf'"),
        ({"beta": -0.1}, r"beta must be from 0 to 1, got -0\.1"),
        ({"beta": 1.5}, r"beta must be from 0 to 1, got 1\.5"),
        ({"beta": math.nan}, "beta must be from 0 to 1, got nan"),
        ({"beta_weighs": "kappa"}, "beta_weighs must be one of .*got 'kappa'"),
        ({"kappa_max": 0.0}, "kappa_max must be positive.*got 0"),
        ({"kappa_max": math.nan}, "kappa_max must be positive.*got nan"),
    ],
)
def test_bad_options(options, message):
    for call in (VISimSiamLoss, lambda **o: vi_simsiam_loss(*views(6, 8), **o)):
        with pytest.raises(ValueError, match=message):
            call(**options)


@pytest.mark.parametrize("name", ["pred", "target"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_features_that_are_not_finite(name, value, reduction):
    arguments = dict(
        zip(("pred", "target", "kappa"), (x.detach() for x in views(6, 8)), strict=True)
    )
    arguments[name][3, 5] = value
    with pytest.raises(ValueError, match=f"{name} must be finite, got NaN or infinity"):
        vi_simsiam_loss(**arguments, reduction=reduction)
    assert vi_simsiam_loss(**arguments, check_kappa=False).isnan()


def test_an_impossible_target_is_no_error():
    axis = torch.eye(4)[:1]
    assert vi_simsiam_loss(axis, -axis, torch.ones(1)) == math.inf


def test_the_modules_options_are_attributes():
    criterion = VISimSiamLoss(beta=0.5)
    assert criterion.beta == 0.5
    criterion.beta = 1.0
    arguments = views(6, 12)
    torch.testing.assert_close(criterion(*arguments), vi_simsiam_loss(*arguments, beta=1.0))
    slopes = [
        torch.autograd.grad(loss, arguments[0])
        for loss in (criterion(*arguments), vi_simsiam_loss(*arguments, beta=1.0))
    ]
    torch.testing.assert_close(*slopes)
    with pytest.raises(ValueError, match="beta must be from 0 to 1, got 2"):
        criterion.beta = 2.0

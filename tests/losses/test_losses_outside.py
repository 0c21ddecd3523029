"""Losses that do not check kappa, as on a GPU and under torch.compile, at a kappa outside of its
domain: NaN in the loss and in its gradients."""

from __future__ import annotations

import pytest
import torch
from cases import ignores_warnings_of_torch, path, unit
from outside import assert_nan_outside, concentrations, each_law, is_outside, watchdog

from powerspherical_ext.losses import (
    VISimSiamLoss,
    expected_likelihood_kernel_loss,
    hedged_instance_loss,
    mc_infonce_loss,
    vi_simclr_loss,
)

pytestmark = pytest.mark.usefixtures(watchdog.__name__)

OPTIONS = [
    {},
    {"beta": 0.5},
    {"beta": 1.0, "relative_to_uniform": False},
    {"beta": 0.5, "beta_weighs": "loss"},
    {"kappa_max": 100.0},
    {"kappa_max": 1e-20},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def criterion_of(law, options, **more):
    if law.is_bounded and ("kappa_max" in options or "beta_weighs" in options):
        pytest.skip("an option that the distribution does not take")
    options = {**options, **more, "distribution": law.name, "check_kappa": False}
    return VISimSiamLoss(**options, detach_target=False)


def arguments(law, dtype):
    kappa = concentrations(law, dtype)
    pred, target = (3 * unit(len(kappa), 5, dtype=dtype, seed=seed) for seed in (1, 2))
    return [x.requires_grad_() for x in (pred, target, kappa)]


def check(loss_of, tensors, outside, gradient_is_finite=True):
    losses = loss_of(*tensors)
    assert_nan_outside(losses, outside)
    for grad in torch.autograd.grad(losses.sum(), tensors):
        assert_nan_outside(grad, outside, finite=gradient_is_finite)


@pytest.mark.usefixtures(path.__name__)
@each_law
@each_dtype
@each_options
def test_vi_simsiam_loss(law, dtype, options):
    criterion = criterion_of(law, options, reduction="none")
    tensors = arguments(law, dtype)
    check(criterion, tensors, is_outside(law, tensors[-1]))


@each_law
@each_options
@pytest.mark.parametrize("wrong", [-1.0, -50.0, float("inf"), float("nan"), 1e16])
def test_the_mean_is_nan(law, options, wrong):
    """The loss of a batch with one such sample."""
    criterion = criterion_of(law, options)
    pred, target = (unit(4, 5, dtype=torch.float32, seed=seed).requires_grad_() for seed in (1, 2))
    kappa = torch.tensor([0.5, wrong, 0.25, 0.1], requires_grad=True)
    loss = criterion(pred, target, kappa)
    loss.backward()
    assert loss.isnan()
    for x in (pred, target, kappa):
        assert_nan_outside(x.grad, torch.tensor([False, True, False, False]))


@pytest.mark.slow
@ignores_warnings_of_torch
@each_law
@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_compiled(law, options):
    criterion = criterion_of(law, options, reduction="none")
    tensors = arguments(law, torch.float32)
    compiled = torch.compile(criterion, backend="aot_eager", fullgraph=True)
    check(compiled, tensors, is_outside(law, tensors[-1]))


@ignores_warnings_of_torch
@each_law
@each_options
def test_transforms(law, options):
    criterion = criterion_of(law, options, reduction="none")
    tensors = arguments(law, torch.float64)
    outside = is_outside(law, tensors[-1])
    grads = torch.vmap(torch.func.grad(criterion, argnums=(0, 1, 2)))(*tensors)
    for grad in grads:
        assert_nan_outside(grad, outside)


@each_law
@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan"), 1e16])
def test_vi_simclr_loss(law, wrong, monkeypatch):
    """All samples are compared with each other."""
    monkeypatch.setattr("powerspherical_ext.losses.simclr.check_inside", lambda *_: None)
    monkeypatch.setattr("powerspherical_ext.losses.simclr.check_finite", lambda *_: None)
    pred, target = (unit(4, 5, seed=seed).requires_grad_() for seed in (1, 2))
    kappa = torch.tensor([0.5, wrong, 0.25, 0.1], dtype=torch.float64, requires_grad=True)
    loss = vi_simclr_loss(pred, target, kappa, distribution=law.name)
    loss.backward()
    assert loss.isnan()
    assert kappa.grad.isnan().all()
    assert pred.grad.isnan().all()


@each_law
@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan"), 1e16])
@pytest.mark.parametrize(
    "loss_of", [mc_infonce_loss, expected_likelihood_kernel_loss, hedged_instance_loss]
)
def test_losses_of_stochastic_embeddings(loss_of, law, wrong, monkeypatch):
    """All samples are compared with each other, here those of one view with NaN."""
    for name in ("check_inside", "check_finite"):
        monkeypatch.setattr(f"powerspherical_ext.losses._embeddings.{name}", lambda *_: None)
    z1, z2 = (unit(4, 5, seed=seed).requires_grad_() for seed in (1, 2))
    kappa = torch.tensor([0.5, wrong, 0.25, 0.1], dtype=torch.float64, requires_grad=True)
    inside = torch.full((4,), 0.5, dtype=torch.float64)
    losses = loss_of(z1, z2, inside, kappa, distribution=law.name, reduction="none")
    assert losses.isnan().all()
    losses.mean().backward()
    assert kappa.grad[1].isnan()
    assert z1.grad.isnan().all()

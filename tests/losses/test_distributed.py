"""Losses and DirectPred in two processes: each has the gradient of one process with all samples."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ddp import in_two_processes, needs_gloo
from torch import nn

from powerspherical_ext.losses import (
    DINOLoss,
    DirectPred,
    VISimSiamLoss,
    barlow_twins_loss,
    expected_likelihood_kernel_loss,
    hedged_instance_loss,
    mc_infonce_loss,
    nt_xent_loss,
    simclr_loss,
    vi_simclr_loss,
)

pytestmark = [pytest.mark.slow, needs_gloo]


def linear_and_batch():
    """A model, and the views of a batch: inputs of two, and targets."""
    torch.manual_seed(0)
    model = nn.Linear(6, 9).double()
    return model, *(torch.randn(8, d).double() for d in (6, 6, 8))


# A loss of each sample alone


def step(model, x, target):
    out = model(x)
    VISimSiamLoss()(out[:, :8], target, F.softplus(out[:, 8])).backward()


def gradients_of_vi_simsiam(rank):
    model, x, _, target = linear_and_batch()
    parallel = nn.parallel.DistributedDataParallel(model)
    step(parallel, *(part.chunk(2)[rank] for part in (x, target)))
    return [p.grad.tolist() for p in model.parameters()]


def test_vi_simsiam_has_the_gradient_of_one_process():
    model, x, _, target = linear_and_batch()
    step(model, x, target)
    for gradients in in_two_processes(gradients_of_vi_simsiam):
        for ours, parameter in zip(gradients, model.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(ours).double(), parameter.grad)


# Losses that compare samples


def losses_of(part, gather):
    """All that compares samples, on a part of the batch; the sum's gradient tells them apart."""
    z1, z2, kappa = part
    return (
        simclr_loss(z1, z2, gather=gather)
        + 2 * vi_simclr_loss([z1, z2], [z1, z2], [kappa, kappa], gather=gather)
        + 3 * nt_xent_loss(z1, z2, gather=gather)
        + 4 * barlow_twins_loss(z1, z2, gather=gather)
        + stochastic_losses_of(z1, z2, kappa, gather)
    )


def stochastic_losses_of(z1, z2, kappa, gather):
    """Each process draws the samples of all processes' views, here the same as the others."""
    generator = torch.Generator().manual_seed(0)
    views, options = (z1, z2, kappa, kappa), {"gather": gather, "generator": generator}
    options["temperature"] = 0.5
    return (
        5 * mc_infonce_loss(*views, **options)
        + 6 * expected_likelihood_kernel_loss(*views, **options)
        + 7 * expected_likelihood_kernel_loss(*views, distribution="power_spherical", **options)
        + 8 * hedged_instance_loss(*views, kl_weight=0.1, **options)
    )


def step_of_all(model, x1, x2, gather):
    out1, out2 = model(x1), model(x2)
    part = out1[:, :8], out2[:, :8], 5 + F.softplus(out1[:, 8])
    losses_of(part, gather).backward()


def gradients_center_and_message(rank):
    model, *data, _ = linear_and_batch()
    parallel = nn.parallel.DistributedDataParallel(model)
    step_of_all(parallel, *(x.chunk(2)[rank] for x in data), gather=True)
    criterion = DINOLoss(6).double()
    x = data[0].chunk(2)[rank]
    criterion([x, x], [x, x])
    with pytest.raises(ValueError, match="as many samples") as caught:
        simclr_loss(x[: 4 - rank], x[: 4 - rank], gather=True)
    gradients = [p.grad.tolist() for p in model.parameters()]
    return gradients, criterion.center.tolist(), str(caught.value)


def test_losses_that_gather_are_those_of_one_process():
    model, *data, _ = linear_and_batch()
    step_of_all(model, *data, gather=False)
    for gradients, center, message in in_two_processes(gradients_center_and_message):
        for ours, parameter in zip(gradients, model.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(ours).double(), parameter.grad)
        torch.testing.assert_close(torch.tensor(center).double(), 0.1 * data[0].mean(0))
        assert "as many samples, got [4, 3]" in message


# DirectPred


def linear_and_direct_pred():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), DirectPred(4)), torch.randn(2, 8, 6)


def weight_and_gradient(rank):
    model, batches = linear_and_direct_pred()
    parallel = nn.parallel.DistributedDataParallel(model)
    z1, z2 = (batch.chunk(2)[rank] for batch in batches)
    (parallel(z1).square().sum() + parallel(z2).sum()).backward()  # two passes, one backward
    return model[1].weight.tolist(), model[0].weight.grad.tolist()


def test_direct_pred_is_that_of_one_process():
    model, (z1, z2) = linear_and_direct_pred()
    (model(z1).square().sum() + model(z2).sum()).backward()
    for weight, gradient in in_two_processes(weight_and_gradient):
        torch.testing.assert_close(torch.tensor(weight), model[1].weight, atol=1e-5, rtol=1e-4)
        # DistributedDataParallel averages what this sum adds.
        torch.testing.assert_close(
            2 * torch.tensor(gradient), model[0].weight.grad, atol=1e-4, rtol=1e-4
        )

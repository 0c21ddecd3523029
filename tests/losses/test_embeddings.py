"""What the losses of stochastic embeddings share: order, memory, and random numbers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from allocations import Largest
from loss_inputs import in_domain
from stochastic import inputs, seeded

from powerspherical_ext.losses import (
    expected_likelihood_kernel_loss,
    hedged_instance_loss,
    mc_infonce_loss,
)

LOSSES = {
    "mc_infonce": mc_infonce_loss,
    "hib": hedged_instance_loss,
    "elk": expected_likelihood_kernel_loss,
    "elk, samples": partial(expected_likelihood_kernel_loss, distribution="power_spherical"),
}
each_loss = pytest.mark.parametrize("loss_of", LOSSES.values(), ids=LOSSES)


@each_loss
def test_order_of_the_batch_and_of_the_views(loss_of):
    """Where samples are as good as their mean directions."""
    name = getattr(loss_of, "keywords", {}).get("distribution", "von_mises_fisher")
    z1, z2, *_ = inputs()
    kappa = in_domain(name, torch.full((len(z1),), 1e13, dtype=torch.float64))
    options = {"temperature": 1e13 if "kernel" in str(loss_of) else 0.2, "reduction": "none"}
    losses = loss_of(z1, z2, kappa, kappa, **options)
    order = torch.randperm(len(z1), generator=seeded())
    permuted = loss_of(z1[order], z2[order], kappa[order], kappa[order], **options)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(permuted, losses[:, order], **tolerance)
    swapped = loss_of(z2, z1, kappa, kappa, **options)
    torch.testing.assert_close(swapped, losses.flip(0), **tolerance)


@each_loss
@pytest.mark.parametrize("shape", ["(N,)", "(N, 1)"])
def test_shapes_of_kappa(loss_of, shape):
    z1, z2, *kappas = inputs()
    given = kappas if shape == "(N,)" else [k.unsqueeze(-1) for k in kappas]
    actual, expected = (
        loss_of(z1, z2, *k, generator=seeded(), reduction="none") for k in (given, kappas)
    )
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@each_loss
def test_no_tensor_has_a_row_of_d_for_each_pair(loss_of):
    n, d, n_samples = 24, 600, 2
    tensors = inputs(n, d)
    with Largest() as largest:
        loss_of(*tensors, n_samples=n_samples).backward()
    pairs = n_samples * (2 * n) ** 2
    assert largest.numbers <= max(2 * pairs, 2 * n_samples * 2 * n * d)
    assert largest.numbers < 0.1 * (2 * n) ** 2 * d


@each_loss
def test_the_generator_decides(loss_of):
    tensors = inputs()
    first, again, other = (loss_of(*tensors, generator=seeded(seed)) for seed in (0, 0, 1))
    assert first == again
    draws = loss_of is not expected_likelihood_kernel_loss  # whose kernel is known
    assert (first != other) == draws

"""What a training step costs, and which share of it the sample and the KL divergence take."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import truediv

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from vi_simsiam.timing import Calls, Times


def step_and_latent(
    models: Mapping[str, nn.Module],
    train_step: Callable[..., float],
    images: Tensor,
    batch_size: int,
) -> Calls:
    """A training step, and its latent alone, of each model."""
    calls: dict[tuple[str, str], Callable[[], float]] = {}
    for name, model in models.items():
        optimizer = torch.optim.Adam(model.parameters())
        s = model.encoder(images[:batch_size]).detach().requires_grad_()
        calls[name, "step"] = partial(train_step, model, optimizer, images, batch_size, 1.0)
        calls[name, "latent"] = partial(latent_step, model, s)
    return calls


def latent_step(model: nn.Module, s: Tensor) -> float:
    """From the encoder's numbers to the sample and the KL divergence, and the gradients back."""
    q = model.latent.posterior(s)
    loss = q.rsample().sum() + kl_divergence(q, model.prior).sum()
    loss.backward()
    return loss.item()


def shares(times: Times, ours: str) -> list[dict]:
    """For each posterior the median step, the share of the latent in it, and the median over the
    rounds of its step divided by that of ``ours``."""
    return [
        {
            "posterior": name,
            "step_ms": statistics.median(step),
            "latent_ms": statistics.median(times[name, "latent"]),
            "share": median_ratio(times[name, "latent"], step),
            "step_over_ours": median_ratio(step, times[ours, "step"]),
        }
        for (name, part), step in times.items()
        if part == "step"
    ]


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    return statistics.median(map(truediv, first, second))

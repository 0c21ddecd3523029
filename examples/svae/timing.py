"""What a training step costs, and which share of it the sample and the KL divergence take.

`in_turns` times any calls, also those of examples/step_cost.py.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import truediv

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

Calls = Mapping[tuple[str, str], Callable[[], float]]
Times = Mapping[tuple[str, str], Sequence[float]]


def in_turns(calls: Calls, device: torch.device, rounds: int = 100, warm_up: int = 5) -> Times:
    """Milliseconds of each call in each round.

    A round makes every call once, in an order of its own, so that other programs slow all of them
    alike. On a CPU the milliseconds are the process's own. On a GPU they are the host's, which
    waits for the number that each call returns.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    shuffle = random.Random(0).shuffle
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for done in range(warm_up + rounds):
        order = list(calls)
        shuffle(order)
        for key in order:
            begin = clock()
            calls[key]()
            if done >= warm_up:
                times[key].append(1e3 * (clock() - begin))
    return times


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

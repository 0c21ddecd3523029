"""Inputs of the losses of stochastic embeddings, and the samples that they draw."""

from __future__ import annotations

import torch
from loss_inputs import FAMILIES, D, N, concentrations, features, unit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(n=N, d=D, name="von_mises_fisher", dtype=torch.float64):
    """Two views and their concentrations."""
    zs = (features(n, d, seed=seed, dtype=dtype) for seed in (0, 1))
    kappas = (concentrations(n, seed=seed, dtype=dtype, name=name) for seed in (0, 1))
    return *zs, *kappas


def samples(z1, z2, kappa1, kappa2, n_samples, name="von_mises_fisher"):
    """(S, 2N, d): what a loss draws by the generator of `seeded`."""
    loc, kappa = unit(torch.cat([z1, z2])), torch.cat([kappa1, kappa2])
    law = FAMILIES[name](loc, kappa, validate_args=False)
    return law.rsample((n_samples,), generator=seeded())


def others(a, n):
    """The views that view a of 2n is compared with, its partner first."""
    partner = (a + n) % (2 * n)
    return [partner] + [c for c in range(2 * n) if c not in (a, partner)]


def circle(nodes):
    """Angles, and unit vectors (nodes, 2), of the trapezoidal rule with the weight 2 pi/nodes."""
    angle = 2 * torch.pi * torch.arange(nodes, dtype=torch.float64) / nodes
    return torch.stack([angle.cos(), angle.sin()], -1)

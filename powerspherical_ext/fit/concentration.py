"""The concentration of maximum likelihood where log p = log p(mu) + kappa phi(t)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Settings

__all__ = ["MAX_CONCENTRATION", "concentration"]

MAX_CONCENTRATION = 1e8  # ten times the end of the domain that the scalar functions are tested on


def concentration(
    settings: Settings, mass: Tensor, moment: Tensor, sin2_mean: Tensor, d: int
) -> tuple[Tensor, Tensor, Tensor]:
    """kappa with log_prob_at_mode_dkappa(kappa) = moment, its last change relative to
    kappa + (d - 1)/2, and whether it is MAX_CONCENTRATION; shapes (B, K).

    ``moment`` is the weighted mean of -phi. Where the concentration is shared, it is that of all
    components of a batch, weighted by ``mass``. The result is 0 where even the uniform has the
    larger moment, and MAX_CONCENTRATION where no smaller one will do. Elsewhere it is
    differentiable in ``moment``, by one Newton step at the solution.
    """
    if settings.shared:
        moment, sin2_mean = (_pooled(x, mass) for x in (moment, sin2_mean))
    with torch.no_grad():
        kappa, change, solvable, at_bound = _solve(settings, moment, sin2_mean, d)
    if moment.requires_grad:
        safe = torch.where(solvable, kappa, 1.0)
        residual = moment - settings.scalar("log_prob_at_mode_dkappa", safe)
        slope = settings.scalar("log_prob_at_mode_dkappa2", safe)
        kappa = kappa + torch.where(solvable, residual / slope, 0.0)
    return kappa, change, at_bound


def _pooled(x: Tensor, mass: Tensor) -> Tensor:
    """The mean over the components that have weight, for each of them."""
    total = torch.where(mass > 0, mass * x, 0.0).sum(-1, keepdim=True)
    return (total / mass.sum(-1, keepdim=True)).expand(x.shape)


def _solve(
    settings: Settings, moment: Tensor, sin2_mean: Tensor, d: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Newton's method for 1/log_prob_at_mode_dkappa, which is nearly linear, from
    E[t] = kappa/(kappa + d - 1)."""
    slope_at, curvature_at = (
        lambda kappa, name=name: settings.scalar(name, kappa)
        for name in ("log_prob_at_mode_dkappa", "log_prob_at_mode_dkappa2")
    )
    top = torch.full_like(moment, MAX_CONCENTRATION)
    none, at_bound = moment >= slope_at(0 * top), slope_at(top) >= moment
    solvable = ~none & ~at_bound
    target = torch.where(solvable, moment, slope_at(torch.ones_like(top)))
    kappa = (
        ((d - 1) * (1 - 2 * sin2_mean) / (2 * sin2_mean)).nan_to_num(0).clamp(0, MAX_CONCENTRATION)
    )
    kappa = torch.where(solvable, kappa, 1.0)
    change = torch.zeros_like(kappa)
    for _ in range(50):
        value = slope_at(kappa)
        new = kappa + value * (value - target) / (-target * curvature_at(kappa))
        new = new.clamp(0, MAX_CONCENTRATION)
        change = (new - kappa).abs() / (new + (d - 1) / 2)
        kappa = new
        if not (change > settings.tolerance).any():
            break
    kappa = torch.where(none, 0.0, torch.where(at_bound, top, kappa))
    return kappa, torch.where(solvable, change, 0.0), solvable, at_bound

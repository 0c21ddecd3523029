"""Maximum likelihood for a family whose log-density is log p(mu) + kappa phi(t).

phi, which is log_prob_ratio at kappa = 1, involves neither kappa nor d. So the mean direction
maximises

    F(mu) = sum_i w_i phi(mu . x_i),    sum_i w_i = 1,

on its own, and kappa solves log_prob_at_mode_dkappa(kappa) = -F(mu), whose left side falls from
its value at kappa = 0 towards 0. For von Mises-Fisher, phi = t - 1, the start of the first
iteration is the solution, and -F = 1 - |sum_i w_i x_i| does not cancel at a high concentration.

Shapes: samples (..., n, d), weights (..., n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._tensors import wide
from ..reference import half_angle
from ..reference.contract import FamilyReference
from . import Fit
from .newton_step import Solve, solve

__all__ = ["MAX_CONCENTRATION", "Method", "fit"]

MAX_CONCENTRATION = 1e8  # ten times the end of the domain that the scalar functions are tested on
_HALVINGS = 30


class Method(NamedTuple):
    """What this algorithm needs of a family."""

    reference: FamilyReference
    log_prob_ratio_dt2: Callable[[Tensor, int, Tensor, Tensor], Tensor]


def fit(
    method: Method, samples: Tensor, weights: Tensor, max_iterations: int, tolerance: float
) -> Fit:
    """Mean direction and concentration of the rows of ``samples``, differentiable in both inputs.

    The last step of either is repeated on the inputs' graph: a Newton step at the solution, whose
    derivative is that of the solution by the implicit function theorem (its Hessian needs none).
    In float64, but for devices without it, and from samples brought to unit length.
    """
    module = method.reference
    samples, weights = wide(samples), wide(weights)
    samples = samples / samples.square().sum(-1, keepdim=True).sqrt()
    weights = weights / weights.sum(-1, keepdim=True)
    with torch.no_grad():
        x, w = samples.detach(), weights.detach()
        mu = _mean_direction(method, x, w, max_iterations, tolerance)
        point = _evaluate(method, x, w, mu)
        kappa, change = _concentration(
            module, -point.value, mu.shape[-1], point.sin2_mean, tolerance
        )
    if samples.requires_grad or weights.requires_grad:
        slope = _slopes(module, samples, mu)
        force = _tangent((weights * slope).unsqueeze(-1) * (samples - mu.unsqueeze(-2)), mu)
        step: Tensor = Solve.apply(force, x, point.stiffness, point.curvature, mu)
        moment = -(weights * _phi(module, samples, mu)).sum(-1)
        inner = (kappa > 0) & (kappa < MAX_CONCENTRATION)
        safe = torch.where(inner, kappa, 1.0)
        d = mu.shape[-1]
        residual = moment - module.log_prob_at_mode_dkappa(safe, d)
        kappa = kappa + torch.where(inner, residual / module.log_prob_at_mode_dkappa2(safe, d), 0.0)
        moved = mu + step
        mu = moved / moved.square().sum(-1, keepdim=True).sqrt()
    return Fit(mu, kappa, point.gradient, change)


class _Point(NamedTuple):
    """F at mu, and minus its Riemannian Hessian, stiffness P + P X^T diag(curvature) X P."""

    value: Tensor  # [...]
    force: Tensor  # [..., d]: the tangential gradient
    gradient: Tensor  # [...]: relative, as in Fit
    stiffness: Tensor  # [...]: sum_i w_i phi'_i t_i
    curvature: Tensor  # [..., n]: -w_i phi''_i
    sin2_mean: Tensor  # [...]: (1 - mean t)/2


def _phi(module: FamilyReference, x: Tensor, mu: Tensor) -> Tensor:
    sin2, cos2 = half_angle(x, mu.unsqueeze(-2))
    return module.log_prob_ratio(torch.ones_like(sin2), x.shape[-1], sin2, cos2)


def _slopes(module: FamilyReference, x: Tensor, mu: Tensor) -> Tensor:
    sin2, cos2 = half_angle(x, mu.unsqueeze(-2))
    return module.log_prob_ratio_dt(torch.ones_like(sin2), x.shape[-1], sin2, cos2)


def _tangent(terms: Tensor, mu: Tensor) -> Tensor:
    """The sum of the rows, less its part along mu."""
    total = terms.sum(-2)
    return total - (total * mu).sum(-1, keepdim=True) * mu


def _evaluate(method: Method, x: Tensor, w: Tensor, mu: Tensor) -> _Point:
    sin2, cos2 = half_angle(x, mu.unsqueeze(-2))
    module, one, d = method.reference, torch.ones_like(sin2), x.shape[-1]
    phi = module.log_prob_ratio(one, d, sin2, cos2)
    slope = w * module.log_prob_ratio_dt(one, d, sin2, cos2)
    value = torch.where(w > 0, w * phi, 0.0).sum(-1)
    force = _tangent(slope.unsqueeze(-1) * (x - mu.unsqueeze(-2)), mu)
    scale = slope.sum(-1)
    # |P x| = sqrt(1 - t^2) = 2 sqrt(sin2 cos2); the last term is what rounding leaves of equal
    # samples.
    size = 2 * (slope * (sin2 * cos2).sqrt()).sum(-1)
    eps = torch.finfo(x.dtype).eps
    length = (force.square().sum(-1).sqrt() - 8 * eps * scale).clamp(min=0)
    gradient = torch.where(length > 0, length / size, 0.0)
    curvature = -w * method.log_prob_ratio_dt2(one, d, sin2, cos2)
    stiffness = (slope * (cos2 - sin2)).sum(-1)
    return _Point(value, force, gradient, stiffness, curvature, (w * sin2).sum(-1))


def _mean_direction(
    method: Method, x: Tensor, w: Tensor, max_iterations: int, tolerance: float
) -> Tensor:
    """A local maximum of F, by Newton's method on the sphere from the direction of sum_i w_i x_i.

    Every step ascends, and is halved until F does not fall.
    """
    d = x.shape[-1]
    # A direction of no symmetry, for when there is no mean direction or it is opposite to a sample.
    generic = (1 + torch.arange(d, device=x.device).to(x.dtype)).sqrt().mul(2.4).cos()
    resultant = (w.unsqueeze(-1) * x).sum(-2)
    tiny = resultant.square().sum(-1, keepdim=True) < 1e-16
    mu = _unit(torch.where(tiny, generic, resultant))
    point = _evaluate(method, x, w, mu)
    mu = torch.where(point.value.isinf().unsqueeze(-1), _unit(mu + 0.3 * _unit(generic)), mu)
    for _ in range(max_iterations):
        point = _evaluate(method, x, w, mu)
        active = point.gradient > tolerance
        if not active.any():
            break
        step = solve(point.force, x, point.stiffness, point.curvature, mu, 1e-6)
        floor = point.value - 8 * torch.finfo(x.dtype).eps * point.value.abs()
        pending = active
        for halving in range(_HALVINGS):
            trial = _unit(mu + 0.5**halving * step)
            value = torch.where(w > 0, w * _phi(method.reference, x, trial), 0.0).sum(-1)
            accepted = pending & (value >= floor)
            mu = torch.where(accepted.unsqueeze(-1), trial, mu)
            pending = pending & ~accepted
            if not pending.any():
                break
    return mu


def _unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def _concentration(
    module: FamilyReference, moment: Tensor, d: int, sin2_mean: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """kappa with log_prob_at_mode_dkappa(kappa) = moment, and its last change, relative to
    kappa + (d - 1)/2.

    Newton's method for 1/log_prob_at_mode_dkappa, which is nearly linear, starts from
    E[t] = kappa/(kappa + d - 1). The result is 0 where even the uniform has the larger moment, and
    MAX_CONCENTRATION where no smaller one will do.
    """
    top = torch.full_like(moment, MAX_CONCENTRATION)
    none, all_equal = (
        moment >= module.log_prob_at_mode_dkappa(0 * top, d),
        module.log_prob_at_mode_dkappa(top, d) >= moment,
    )
    solvable = ~none & ~all_equal
    target = torch.where(solvable, moment, module.log_prob_at_mode_dkappa(torch.ones_like(top), d))
    kappa = (
        ((d - 1) * (1 - 2 * sin2_mean) / (2 * sin2_mean)).nan_to_num(0).clamp(0, MAX_CONCENTRATION)
    )
    kappa = torch.where(solvable, kappa, 1.0)
    change = torch.zeros_like(kappa)
    for _ in range(50):
        value = module.log_prob_at_mode_dkappa(kappa, d)
        step = value * (value - target) / (-target * module.log_prob_at_mode_dkappa2(kappa, d))
        new = (kappa + step).clamp(0, MAX_CONCENTRATION)
        change = (new - kappa).abs() / (new + (d - 1) / 2)
        kappa = new
        if not (change > tolerance).any():
            break
    kappa = torch.where(none, 0.0, torch.where(all_equal, top, kappa))
    return kappa, torch.where(solvable, change, 0.0)

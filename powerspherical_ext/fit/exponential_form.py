"""Maximum likelihood for a family whose log-density is log p(mu) + kappa phi(t).

phi, which is log_prob_ratio at kappa = 1, involves neither kappa nor d. So the mean direction
maximises

    F(mu) = sum_i w_i phi(mu . x_i),    sum_i w_i = 1,

on its own, and kappa solves log_prob_at_mode_dkappa(kappa) = -F(mu), whose left side falls from
its value at kappa = 0 towards 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._tensors import wide
from ..reference.contract import FamilyReference
from . import Fit, Settings
from .concentration import concentration
from .directions import fallback, generic, unit
from .newton_step import Hessian, climb, newton_step, solve
from .products import dots, square_distances, sums

__all__ = ["Method", "fit"]


class Method(NamedTuple):
    """What this algorithm needs of a family."""

    reference: FamilyReference
    log_prob_ratio_dt2: Callable[[Tensor, int, Tensor, Tensor], Tensor]


def fit(method: Method, samples: Tensor, weights: Tensor, settings: Settings) -> Fit:
    """Mean directions and concentrations, differentiable in both inputs.

    The last step of either is repeated on the inputs' graph: a Newton step at the solution, whose
    derivative is that of the solution by the implicit function theorem (its Hessian needs none).
    """
    mass = wide(weights).sum(-1)
    problem = _Problem(method, samples.detach(), weights.detach(), mass.detach())
    with torch.no_grad():
        point = problem.ascend(settings)
    mu, moment = point.mu, -point.value
    if torch.is_grad_enabled() and (samples.requires_grad or weights.requires_grad):
        moved = dots(samples, mu)
        moved = moved - moved.detach()  # 0, with the derivative of t
        pull = weights * (point.slope + problem.bend(point) * moved)
        force = _project(sums(samples, pull) / mass.unsqueeze(-1), mu)
        mu = unit(mu + newton_step(problem.hessian(point), force))
        moment = _mean_of(-(point.phi + point.slope * moved), weights, mass)
    sin2_mean = problem.mean(1 - point.cos2)
    kappa, change, at_bound = concentration(settings, mass, moment, sin2_mean, samples.shape[-1])
    return Fit(mu, kappa, point.gradient, change, at_bound)


class _Point(NamedTuple):
    """F and its derivatives at mu."""

    mu: Tensor  # [B, K, d]
    cos2: Tensor  # [B, K, n]
    phi: Tensor  # [B, K, n]
    slope: Tensor  # [B, K, n]: phi'
    value: Tensor  # [B, K]: F
    force: Tensor  # [B, K, d]: its tangential gradient
    gradient: Tensor  # [B, K]: the length of that, relative, as in Fit


class _Problem(NamedTuple):
    """F of K weighted components in each of B batches."""

    method: Method
    samples: Tensor  # [B, n, d]
    weights: Tensor  # [B, K, n]
    mass: Tensor  # [B, K]: their sums

    def mean(self, values: Tensor) -> Tensor:
        return _mean_of(values, self.weights, self.mass)

    def evaluate(self, mu: Tensor) -> _Point:
        """cos2 is exact relative to itself, so that phi is so near the antipode, where it may be
        steep; sin2 = 1 - cos2 is exact absolutely."""
        cos2 = (square_distances(self.samples, -mu) / 4).clamp(max=1)
        sin2, one, d = 1 - cos2, cos2.new_ones(()), mu.shape[-1]
        phi = self.method.reference.log_prob_ratio(one, d, sin2, cos2)
        slope = self.method.reference.log_prob_ratio_dt(one, d, sin2, cos2)
        pull = sums(self.samples, self.weights * slope) / self.mass.unsqueeze(-1)
        force = _project(pull, mu)
        # |P x| = sqrt(1 - t^2) = 2 sqrt(sin2 cos2); what rounding leaves of the force is no force.
        size = 2 * self.mean(slope * (sin2 * cos2).sqrt())
        rounding = 8 * torch.finfo(mu.dtype).eps * self.mean(slope)
        length = (force.square().sum(-1).sqrt() - rounding).clamp(min=0)
        gradient = torch.where(length > 0, length / size, 0.0)
        return _Point(mu, cos2, phi, slope, self.mean(phi), force, gradient)

    def bend(self, point: _Point) -> Tensor:
        """phi'', shape (B, K, n)."""
        one, d = point.cos2.new_ones(()), point.mu.shape[-1]
        return self.method.log_prob_ratio_dt2(one, d, 1 - point.cos2, point.cos2)

    def hessian(self, point: _Point) -> Hessian:
        """sum_i w_i phi'_i t_i - P X^T diag(w_i phi''_i) X P, where P projects onto the tangent
        space of mu: minus the Riemannian Hessian of F there, and regular along mu, where rounding
        may lead."""
        stiffness = self.mean(point.slope * (2 * point.cos2 - 1)).unsqueeze(-1)
        curvature = self.weights * self.bend(point) / self.mass.unsqueeze(-1)

        def apply(v: Tensor) -> Tensor:
            along = dots(self.samples, _project(v, point.mu))
            return stiffness * v - _project(sums(self.samples, curvature * along), point.mu)

        return apply

    def ascend(self, settings: Settings) -> _Point:
        """A local maximum of F, by Newton's method on the sphere from the direction of
        sum_i w_i x_i.

        Every step ascends, and is halved until F does not fall. A component that has converged
        stays where it is.
        """
        if settings.start is None:
            resultant = sums(self.samples, self.weights) / self.mass.unsqueeze(-1)
            tiny = resultant.square().sum(-1, keepdim=True) < 1e-16
            mu = unit(torch.where(tiny, fallback(resultant, settings), resultant))
        else:
            mu, _ = settings.start
        point = self.evaluate(mu)
        impossible = point.value.isinf().unsqueeze(-1)  # mu is opposite to a sample
        if impossible.any():
            aside = unit(mu + 0.3 * generic(mu.shape[-1], mu))
            point = self.evaluate(torch.where(impossible, aside, mu))
        for _ in range(settings.max_iterations):
            pending = point.gradient > settings.tolerance
            if not pending.any():
                break
            step = solve(self.hessian(point), point.force, 1e-6)
            floor = point.value - 8 * torch.finfo(mu.dtype).eps * (1 + point.value.abs())
            point = climb(self.after, point, step, pending, floor)
        return point

    def after(self, point: _Point, step: Tensor) -> _Point:
        return self.evaluate(unit(point.mu + step))


def _mean_of(values: Tensor, weights: Tensor, mass: Tensor) -> Tensor:
    """sum_i w_i v_i, where w_i = 0 makes 0 of infinity; shape (B, K)."""
    return torch.where(weights > 0, weights * values, 0.0).sum(-1) / mass


def _project(v: Tensor, mu: Tensor) -> Tensor:
    """The part of v tangential to the sphere at mu."""
    return v - (v * mu).sum(-1, keepdim=True) * mu

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
from .products import coordinates, dots, masses, square_distances, sums, unit_rows

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
    mass = masses(weights)
    problem = _Problem(method, samples.detach(), weights.detach(), mass.detach())
    with torch.no_grad():
        point = problem.ascend(settings)
    mu, moment = point.mu, -point.value
    if torch.is_grad_enabled() and (samples.requires_grad or weights.requires_grad):
        phi, slope, bend = problem.phi_and_derivatives(mu)
        moved = dots(samples, mu)
        moved = moved - moved.detach()  # 0, with the derivative of t
        pull = sums(samples, weights * (slope + bend * moved)) / mass.unsqueeze(-1)
        mu = unit(mu + newton_step(problem.hessian(point), _project(pull, mu)))
        moment = -_without_infinity(weights, phi + slope * moved).sum(-1) / mass
    d = samples.shape[-1]
    kappa, change, at_bound = concentration(settings, mass, moment, point.sin2_mean, d)
    return Fit(mu, kappa, point.gradient, change, at_bound)


class _Point(NamedTuple):
    """F and its derivatives at mu."""

    mu: Tensor  # [B, K, d]
    value: Tensor  # [B, K]: F
    force: Tensor  # [B, K, d]: its tangential gradient
    gradient: Tensor  # [B, K]: the length of that, relative, as in Fit
    stiffness: Tensor  # [B, K]: sum_i w_i phi'_i t_i
    curvature: Tensor  # [B, K, n]: w_i phi''_i, in the precision of the inputs
    sin2_mean: Tensor  # [B, K]


class _Problem(NamedTuple):
    """F of K weighted components in each of B batches."""

    method: Method
    samples: Tensor  # [B, n, d]
    weights: Tensor  # [B, K, n]
    mass: Tensor  # [B, K]: their sums

    def evaluate(self, mu: Tensor) -> _Point:
        batch, k, _ = mu.shape
        pull = torch.zeros_like(mu)
        value, slopes, size, stiffness, sin2_mean = mu.new_zeros(5, batch, k)
        dtype = torch.promote_types(self.samples.dtype, self.weights.dtype)
        curvature = mu.new_empty(batch, k, self.samples.shape[1], dtype=dtype)
        for b, r, x in unit_rows(self.samples, 8 * k):
            cos2, phi, slope, bend = self._at(mu[b], x)
            w = wide(self.weights[b, :, r]) / self.mass[b].unsqueeze(-1)
            curvature[b, :, r] = w * bend
            slope = w * slope
            pull[b] += slope @ x
            value[b] += _without_infinity(w, phi).sum(-1)
            slopes[b] += slope.sum(-1)
            stiffness[b] += (slope * (2 * cos2 - 1)).sum(-1)
            # |P x| = sqrt(1 - t^2) = 2 sqrt(sin2 cos2)
            size[b] += (slope * 2 * ((1 - cos2) * cos2).sqrt()).sum(-1)
            sin2_mean[b] += (w * (1 - cos2)).sum(-1)
        force = _project(pull, mu)
        rounding = 8 * torch.finfo(mu.dtype).eps * slopes  # what it leaves of the force is no force
        length = (force.square().sum(-1).sqrt() - rounding).clamp(min=0)
        gradient = torch.where(length > 0, length / size, 0.0)
        return _Point(mu, value, force, gradient, stiffness, curvature, sin2_mean)

    def phi_and_derivatives(self, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi, phi' and phi'', shape (B, K, n)."""
        shape = (*mu.shape[:2], self.samples.shape[1])
        result = mu.new_empty(shape), mu.new_empty(shape), mu.new_empty(shape)
        for b, r, x in unit_rows(self.samples, 8 * shape[1]):
            for values, block in zip(result, self._at(mu[b], x)[1:], strict=True):
                values[b, :, r] = block
        return result

    def _at(self, mu: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """cos2, phi, phi' and phi'' at a block of samples.

        cos2 is exact relative to itself, so that phi is so near the antipode, where it may be
        steep; sin2 = 1 - cos2 is exact absolutely.
        """
        cos2 = (square_distances(-mu, x) / 4).clamp_(max=1)
        sin2, one, d = 1 - cos2, cos2.new_ones(()), mu.shape[-1]
        module = self.method.reference
        phi = module.log_prob_ratio(one, d, sin2, cos2)
        slope = module.log_prob_ratio_dt(one, d, sin2, cos2)
        return cos2, phi, slope, self.method.log_prob_ratio_dt2(one, d, sin2, cos2)

    def hessian(self, point: _Point) -> Hessian:
        """sum_i w_i phi'_i t_i - P X^T diag(w_i phi''_i) X P, where P projects onto the tangent
        space of mu: minus the Riemannian Hessian of F there, and regular along mu, where rounding
        may lead."""

        def apply(v: Tensor) -> Tensor:
            inside, bent = _project(v, point.mu), torch.zeros_like(v)
            for b, r, x in unit_rows(self.samples, 2 * v.shape[1]):
                bent[b] += (inside[b] @ x.mT * point.curvature[b, :, r]) @ x
            return point.stiffness.unsqueeze(-1) * v - _project(bent, point.mu)

        return apply

    def ascend(self, settings: Settings) -> _Point:
        """A local maximum of F, by Newton's method on the sphere from the direction of
        sum_i w_i x_i.

        Every step ascends, and is halved until F does not fall. A component that has converged
        stays where it is.
        """
        mu = self.start(settings)
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

    def start(self, settings: Settings) -> Tensor:
        """Where the ascent starts: near its end, if that is found with less work."""
        if settings.start is not None:
            return settings.start[0]
        x, found = coordinates(self.samples), None
        if x is not None:
            mu, found = self._replace(samples=x).maximum_among(self.samples, settings)
            if found.all():
                return mu
        resultant = self.resultant()
        start = unit(torch.where(_is_tiny(resultant), fallback(resultant, settings), resultant))
        return start if found is None else torch.where(found, mu, start)

    def maximum_among(self, samples: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        """The maximum for samples of which this problem has coordinates, and whether it is one,
        shape (B, K, 1).

        A maximum is where mu has the direction of sum_i w_i phi'_i x_i. That of the coordinates
        may be a saddle for the samples, or its sum may cancel.
        """
        point = self.ascend(settings._replace(tolerance=min(settings.tolerance, 1e-10)))
        slopes = self.weights * self.phi_and_derivatives(point.mu)[1]
        stiff = (self.mass * point.stiffness > 1e-3 * slopes.sum(-1)).unsqueeze(-1)
        return unit(sums(samples, slopes)), stiff & ~_is_tiny(self.resultant())

    def resultant(self) -> Tensor:
        return sums(self.samples, self.weights) / self.mass.unsqueeze(-1)

    def after(self, point: _Point, step: Tensor) -> _Point:
        return self.evaluate(unit(point.mu + step))


def _is_tiny(resultant: Tensor) -> Tensor:
    """Whether it has no direction, shape (B, K, 1)."""
    return resultant.square().sum(-1, keepdim=True) < 1e-16


def _without_infinity(weights: Tensor, values: Tensor) -> Tensor:
    """w v, where w = 0 makes 0 of infinity."""
    return torch.where(weights == 0, 0.0, weights * values)


def _project(v: Tensor, mu: Tensor) -> Tensor:
    """The part of v tangential to the sphere at mu."""
    return v - (v * mu).sum(-1, keepdim=True) * mu

"""Maximum likelihood for spherical Cauchy: the conformal barycentre of the samples.

psi = rho mu is a point of the open unit ball. Let M be the Moebius map of the ball that carries
psi to 0. Then y_i = M(x_i) are unit vectors, and the likelihood equation is sum_i w_i y_i = 0 for
weights of sum 1 (Kato and McCullagh 2020). In the frame of psi, to second order in a step s,

    log-likelihood/(d - 1) = constant + 2 m . s - 2 s^T (I - S) s,
    m = sum_i w_i y_i,  S = sum_i w_i y_i y_i^T,

so that Newton's step is s = (I - S)^-1 m/2. The log-likelihood is concave along the geodesics of
the ball (Cantarella and Schumacher 2022). Its maximum is unique, and inside the ball if no point
has half of the weight or more.

With D_i = |x_i - psi|^2 and a_i = (1 - rho^2)/D_i it is y_i = a_i (x_i - psi) - psi, so that sums
over y_i are products of the samples x_i with weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._tensors import wide
from . import Fit, Settings
from .directions import fallback, unit
from .newton_step import Hessian, climb, newton_step, solve
from .products import coordinates, dots, masses, square_distances, sums, unit_rows

__all__ = ["MAX_CONCENTRATION", "fit"]

MAX_CONCENTRATION = 1 - 1e-7  # it rounds to a float32 below 1
_LONGEST = 0.8  # the length of the longest step, which must not leave the ball


def fit(samples: Tensor, weights: Tensor, settings: Settings) -> Fit:
    """Mean directions and concentrations, differentiable in both inputs.

    ``gradient`` is |m|, less what rounding leaves of it. The last step is repeated on the inputs'
    graph: its derivative is that of the solution by the implicit function theorem. Where half of
    the weight or more is at one point, the concentration is MAX_CONCENTRATION, and has no
    derivative.
    """
    mass = masses(weights)
    problem = _Problem(samples.detach(), weights.detach(), mass.detach())
    if settings.shared:
        with torch.no_grad():
            return problem.share(settings)
    with torch.no_grad():
        point, change = problem.ascend(settings)
        inside = _is_inside(point.psi)
        psi = torch.where(inside.unsqueeze(-1), point.psi, problem.nearest(point))
    if torch.is_grad_enabled() and (samples.requires_grad or weights.requires_grad):
        along = dots(samples, psi)
        moved = along - along.detach()  # 0, with the derivative of psi . x, which is -dD/2
        square = _one_minus_square(psi).unsqueeze(-1)
        pull = weights * (point.a + 2 * point.a.square() / square * moved)  # a/D = a^2/(1 - rho^2)
        share = (pull.sum(-1) / mass).unsqueeze(-1)
        m = sums(samples, pull) / mass.unsqueeze(-1) - psi * (share + 1)
        # An infinitesimal step at the centre moves psi by (1 - rho^2) times its length.
        step = square * newton_step(problem.hessian(point), m / 2)
        psi = torch.where(inside.unsqueeze(-1), psi + step, psi)
    rho = torch.linalg.vector_norm(psi, dim=-1)
    is_uniform = rho == 0
    first = torch.zeros_like(psi)
    first[..., 0] = 1
    mu = psi / torch.where(is_uniform, 1.0, rho).unsqueeze(-1)
    mu = torch.where(is_uniform.unsqueeze(-1), first, mu)
    return Fit(mu, rho, torch.where(inside, point.gradient, 0.0), change, ~inside)


class _Point(NamedTuple):
    """The log-likelihood and its derivatives at psi."""

    psi: Tensor  # [B, K, d]
    value: Tensor  # [B, K]: mean of log p/(d - 1), up to a constant
    m: Tensor  # [B, K, d]
    gradient: Tensor  # [B, K]: |m|, less its rounding; 0 where rho is at its limit
    a: Tensor  # [B, K, n], in the precision of the inputs


class _Problem(NamedTuple):
    """The likelihood of K weighted components in each of B batches."""

    samples: Tensor  # [B, n, d]
    weights: Tensor  # [B, K, n]
    mass: Tensor  # [B, K]: their sums

    def evaluate(self, psi: Tensor) -> _Point:
        batch, k, _ = psi.shape
        square = _one_minus_square(psi)
        pull, (share, distances) = torch.zeros_like(psi), psi.new_zeros(2, batch, k)
        dtype = torch.promote_types(self.samples.dtype, self.weights.dtype)
        all_a = psi.new_empty(batch, k, self.samples.shape[1], dtype=dtype)
        for b, r, x in unit_rows(self.samples, 4 * k):
            w = wide(self.weights[b, :, r]) / self.mass[b].unsqueeze(-1)
            distance = square_distances(psi[b], x)
            a = square[b].unsqueeze(-1) / distance
            all_a[b, :, r] = a
            a *= w
            pull[b] += a @ x
            share[b] += a.sum(-1)
            distances[b] += distance.log_().mul_(w).sum(-1)
        m = pull - psi * (share + 1).unsqueeze(-1)
        length = (torch.linalg.vector_norm(m, dim=-1) - _rounding(psi)).clamp(min=0)
        gradient = torch.where(_is_inside(psi), length, 0.0)
        return _Point(psi, square.log() - distances, m, gradient, all_a)

    def hessian(self, point: _Point, ridge: float = 0.0) -> Hessian:
        """(1 + ridge) I - S."""

        def apply(v: Tensor) -> Tensor:
            psi, bent = point.psi, torch.zeros_like(v)
            for b, r, x in unit_rows(self.samples, 4 * v.shape[1]):
                w = wide(self.weights[b, :, r]) / self.mass[b].unsqueeze(-1)
                a, along_psi = wide(point.a[b, :, r]), (psi[b] * v[b]).sum(-1, keepdim=True)
                pull = w * (a * (v[b] @ x.mT - along_psi) - along_psi)  # w (y . v)
                bent[b] += (pull * a) @ x - psi[b] * (pull * (a + 1)).sum(-1, keepdim=True)
            return (1 + ridge) * v - bent

        return apply

    def ascend(self, settings: Settings) -> tuple[_Point, Tensor]:
        """The point of maximum likelihood, and the length of the last step.

        Every step is halved until the likelihood does not fall. A component that has converged
        stays where it is.
        """
        point = self.evaluate(self.start(settings))
        change = torch.zeros_like(self.mass)
        for _ in range(settings.max_iterations):
            active = point.gradient > settings.tolerance
            if not active.any():
                break
            # The ridge makes a step of m where I - S is 0 along it, as for samples at two points.
            step = solve(self.hessian(point, ridge=1e-9), point.m / 2, 1e-6)
            length = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
            step = step * (_LONGEST / length.clamp(min=_LONGEST))
            floor = point.value - _rounding(point.psi) * (1 + point.value.abs())
            point = climb(self.after, point, step, active, floor)
            change = torch.where(active, length.squeeze(-1), change)
        return point, torch.where(point.gradient > settings.tolerance, change, 0.0)

    def after(self, point: _Point, step: Tensor) -> _Point:
        """The point at a step in the frame of psi."""
        return self.evaluate(_limited(_from_centre(step, point.psi)))

    def start(self, settings: Settings) -> Tensor:
        if settings.start is not None:
            mu, rho = settings.start
            return _limited(rho.unsqueeze(-1) * mu)
        x, near = None if settings.shared else coordinates(self.samples), None
        if x is not None:
            near = self._replace(samples=x).maximum_among(self.samples, settings)
            if not near.isnan().any():
                return near
        mean = sums(self.samples, self.weights) / self.mass.unsqueeze(-1)
        square = mean.square().sum(-1, keepdim=True).clamp(max=1)
        # A = 2 rho/(1 + rho^2) in many dimensions
        start = _limited(mean / (1 + (1 - square).sqrt()))
        return start if near is None else torch.where(near.isnan(), start, near)

    def maximum_among(self, samples: Tensor, settings: Settings) -> Tensor:
        """The maximum for samples of which this problem has coordinates: where m = 0,
        psi (1 + sum_i w_i a_i) = sum_i w_i a_i x_i."""
        point, _ = self.ascend(settings._replace(tolerance=min(settings.tolerance, 1e-10)))
        pull = self.weights * point.a
        total = (self.mass + pull.sum(-1)).unsqueeze(-1)
        return _limited(sums(samples, pull) / total)

    def nearest(self, point: _Point) -> Tensor:
        """The sample nearest to psi, at the limit. Near its limit psi goes to the sample that has
        half of the weight or more."""
        index = point.a.argmax(-1, keepdim=True).expand(point.psi.shape)
        return MAX_CONCENTRATION * unit(wide(self.samples.gather(1, index)))

    def share(self, settings: Settings) -> Fit:
        """One rho for the components of a batch, by steps that never lower the likelihood.

        As -log D >= 1 - log D' - D/D' for any D', the mean directions and rho that maximise

            W log(1 - rho^2) - (1 + rho^2) A + 2 rho sum_k mu_k . s_k,
            W = sum w_ki,  A = sum w_ki/D'_ki,  s_k = sum_i w_ki x_i/D'_ki,

        are more likely than those at which D' was taken (Hunter and Lange 2004). Convergence is
        linear.
        """
        psi = self.start(settings)
        rho = torch.linalg.vector_norm(psi, dim=-1)
        mu = unit(torch.where((rho > 0).unsqueeze(-1), psi, fallback(psi, settings)))
        weight = self.mass.sum(-1, keepdim=True)
        rho = (self.mass * rho).sum(-1, keepdim=True) / weight
        for _ in range(settings.max_iterations):
            total, pull = self._pull(rho.unsqueeze(-1) * mu)
            length = torch.linalg.vector_norm(total, dim=-1)
            mu = torch.where((length > 0).unsqueeze(-1), unit(total), mu)
            old, rho = rho, _best_rho(weight, pull.sum(-1, keepdim=True), length)
            change = (rho - old).abs() / (1 - rho)
            if not (change > settings.tolerance).any():
                break
        rho, change = rho.expand(self.mass.shape), change.expand(self.mass.shape)
        return Fit(mu, rho, torch.zeros_like(rho), change, rho >= MAX_CONCENTRATION)

    def _pull(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i w_ki x_i/D_ki (B, K, d) and sum_i w_ki/D_ki (B, K)."""
        total, pull = torch.zeros_like(psi), torch.zeros_like(self.mass)
        for b, r, x in unit_rows(self.samples, 2 * psi.shape[1]):
            inverse = wide(self.weights[b, :, r]) / square_distances(psi[b], x)
            total[b] += inverse @ x
            pull[b] += inverse.sum(-1)
        return total, pull


def _best_rho(weight: Tensor, pull: Tensor, lengths: Tensor) -> Tensor:
    """The zero of C - rho A - rho W/(1 - rho^2), C = sum_k |s_k|, at most MAX_CONCENTRATION.

    It is concave and falls, so that Newton's method comes down to the zero from C/A.
    """
    total = lengths.sum(-1, keepdim=True)
    rho = (total / pull).clamp(max=MAX_CONCENTRATION)
    for _ in range(60):
        square = 1 - rho.square()
        value = total - rho * pull - rho * weight / square
        slope = pull + weight * (1 + rho.square()) / square.square()
        step = value / slope
        rho = (rho + step).clamp(0, MAX_CONCENTRATION)
        if not (step.abs() > 1e-14 * (1 - rho)).any():
            break
    return rho


def _one_minus_square(psi: Tensor) -> Tensor:
    return 1 - psi.square().sum(-1)


def _rounding(psi: Tensor) -> Tensor:
    """What the rounding of psi, and of the samples, makes of m."""
    return 16 * torch.finfo(psi.dtype).eps / _one_minus_square(psi)


def _is_inside(psi: Tensor) -> Tensor:
    """Whether rho is below its limit. NaN is."""
    inside: Tensor = torch.linalg.vector_norm(psi, dim=-1) >= MAX_CONCENTRATION * (1 - 1e-12)
    return ~inside


def _limited(psi: Tensor) -> Tensor:
    rho = torch.linalg.vector_norm(psi, dim=-1, keepdim=True)
    limited: Tensor = psi * (MAX_CONCENTRATION / rho.clamp(min=MAX_CONCENTRATION))
    return limited


def _from_centre(step: Tensor, psi: Tensor) -> Tensor:
    """The point ``step`` of the ball, moved by the inverse of the map that carries psi to 0."""
    dot = (step * psi).sum(-1, keepdim=True)
    inner, outer = step.square().sum(-1, keepdim=True), psi.square().sum(-1, keepdim=True)
    return ((1 - outer) * step + (1 + inner + 2 * dot) * psi) / (1 + inner * outer + 2 * dot)

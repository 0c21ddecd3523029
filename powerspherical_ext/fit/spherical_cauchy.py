"""Maximum likelihood for spherical Cauchy: the conformal barycentre of the samples.

psi = rho mu is a point of the open unit ball. Let M be the Moebius map of the ball that carries
psi to 0. Then y_i = M(x_i) are unit vectors, and the likelihood equation is sum_i w_i y_i = 0 for
weights of sum 1 (Kato and McCullagh 2020). In the frame of psi, to second order in a step s,

    log-likelihood/(d - 1) = constant + 2 m . s - 2 s^T (I - S) s,
    m = sum_i w_i y_i,  S = sum_i w_i y_i y_i^T,

so that Newton's step is s = (I - S)^-1 m/2. The log-likelihood is concave along the geodesics of
the ball (Cantarella and Schumacher 2022). Its maximum is unique, and inside the ball if no point
has half of the weight or more.

Shapes: samples (..., n, d), weights (..., n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._tensors import wide
from . import Fit
from .newton_step import Solve, solve

__all__ = ["MAX_CONCENTRATION", "fit"]

MAX_CONCENTRATION = 1 - 1e-7  # it rounds to a float32 below 1
_LONGEST = 0.8  # the length of the longest step, which must not leave the ball
_HALVINGS = 30


def fit(samples: Tensor, weights: Tensor, max_iterations: int, tolerance: float) -> Fit:
    """Mean direction and concentration of the rows of ``samples``, differentiable in both inputs.

    ``gradient`` is |m|, less what rounding leaves of it. The last step is repeated on the inputs'
    graph: its derivative is that of the solution by the implicit function theorem. Where half of
    the weight or more is at one point, the concentration is MAX_CONCENTRATION, and has no
    derivative.
    """
    samples, weights = wide(samples), wide(weights)
    samples = samples / samples.square().sum(-1, keepdim=True).sqrt()
    weights = weights / weights.sum(-1, keepdim=True)
    with torch.no_grad():
        x, w = samples.detach(), weights.detach()
        psi, gradient, change = _barycentre(x, w, max_iterations, tolerance)
    if samples.requires_grad or weights.requires_grad:
        y = _to_centre(samples, psi)
        force = (weights.unsqueeze(-1) * y).sum(-2) / 2
        step: Tensor = Solve.apply(force, *_hessian(y.detach(), w), torch.zeros_like(psi))
        # An infinitesimal step at the centre moves psi by (1 - rho^2) times its length.
        moved = psi + (1 - psi.square().sum(-1, keepdim=True)) * step
        psi = torch.where(_is_inside(psi).unsqueeze(-1), moved, psi)
    rho = torch.linalg.vector_norm(psi, dim=-1)
    is_uniform = rho == 0
    first = torch.zeros_like(psi)
    first[..., 0] = 1
    mu = psi / torch.where(is_uniform, 1.0, rho).unsqueeze(-1)
    return Fit(torch.where(is_uniform.unsqueeze(-1), first, mu), rho, gradient, change)


def _barycentre(
    x: Tensor, w: Tensor, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """psi, |m| and the length of the last step; the latter two are 0 where rho is at its limit."""
    mean = (w.unsqueeze(-1) * x).sum(-2)
    square = mean.square().sum(-1, keepdim=True).clamp(max=1)
    psi = _limited(mean / (1 + (1 - square).sqrt()))  # A = 2 rho/(1 + rho^2) in many dimensions
    change = torch.zeros_like(square.squeeze(-1))
    for iteration in range(max_iterations + 1):
        y = _to_centre(x, psi)
        m = (w.unsqueeze(-1) * y).sum(-2)
        rounding = 16 * torch.finfo(x.dtype).eps / (1 - psi.square().sum(-1))  # of psi, felt in y
        gradient = (torch.linalg.vector_norm(m, dim=-1) - rounding).clamp(min=0)
        gradient = torch.where(_is_inside(psi), gradient, 0.0)
        active = gradient > tolerance
        if iteration == max_iterations or not active.any():
            break
        # The ridge makes a step of m where I - S is 0 along it, as for samples at two points.
        step = solve(m / 2, *_hessian(y, w, ridge=1e-9), torch.zeros_like(psi), 1e-12)
        length = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
        step = step * (_LONGEST / length.clamp(min=_LONGEST))
        floor = _log_likelihood(x, w, psi)
        floor = floor - rounding * (1 + floor.abs())
        pending = active
        for halving in range(_HALVINGS):
            trial = _limited(_from_centre(0.5**halving * step, psi))
            accepted = pending & (_log_likelihood(x, w, trial) >= floor)
            psi = torch.where(accepted.unsqueeze(-1), trial, psi)
            pending = pending & ~accepted
            if not pending.any():
                break
        change = torch.where(active, length.squeeze(-1), change)
    # Near its limit psi goes to the sample that has half of the weight or more.
    nearest = (x - psi.unsqueeze(-2)).square().sum(-1).argmin(-1)[..., None, None]
    sample = x.gather(-2, nearest.expand(*psi.shape[:-1], 1, psi.shape[-1])).squeeze(-2)
    psi = torch.where(_is_inside(psi).unsqueeze(-1), psi, MAX_CONCENTRATION * sample)
    return psi, gradient, torch.where(active, change, 0.0)


def _is_inside(psi: Tensor) -> Tensor:
    """Whether rho is below its limit."""
    inside: Tensor = torch.linalg.vector_norm(psi, dim=-1) < MAX_CONCENTRATION * (1 - 1e-12)
    return inside


def _hessian(y: Tensor, w: Tensor, ridge: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """(1 + ridge) I - Y^T diag(w) Y, as the arguments of `solve`."""
    return y, torch.full_like(w[..., 0], 1 + ridge), -w


def _limited(psi: Tensor) -> Tensor:
    rho = torch.linalg.vector_norm(psi, dim=-1, keepdim=True)
    limited: Tensor = psi * (MAX_CONCENTRATION / rho.clamp(min=MAX_CONCENTRATION))
    return limited


def _log_likelihood(x: Tensor, w: Tensor, psi: Tensor) -> Tensor:
    """The mean of log p/(d - 1), up to a constant."""
    distance = (x - psi.unsqueeze(-2)).square().sum(-1)
    return (1 - psi.square().sum(-1)).log() - (w * distance.log()).sum(-1)


def _to_centre(x: Tensor, psi: Tensor) -> Tensor:
    """The unit vectors x (..., n, d), moved by the Moebius map that carries psi to 0."""
    psi = psi.unsqueeze(-2)
    inside = 1 - psi.square().sum(-1, keepdim=True)
    distance = (x - psi).square().sum(-1, keepdim=True)
    return inside * ((x - psi) / distance) - psi


def _from_centre(step: Tensor, psi: Tensor) -> Tensor:
    """The point ``step`` of the ball, moved by the inverse of that map."""
    dot = (step * psi).sum(-1, keepdim=True)
    inner, outer = step.square().sum(-1, keepdim=True), psi.square().sum(-1, keepdim=True)
    return ((1 - outer) * step + (1 + inner + 2 * dot) * psi) / (1 + inner * outer + 2 * dot)

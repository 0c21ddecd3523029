"""Spherical Cauchy: scalar functions of (rho, d), sin2 = (1 - t)/2 and cos2 = (1 + t)/2.

The names are those of csrc/math/spherical_cauchy.h, where the derivations and sources stand, and
b = (d - 1)/2. rho, sin2 and cos2 are tensors of one dtype, float32 or float64, of shapes that
broadcast; d is an int. No control flow depends on the value of a tensor. The expectations are
computed in float64 whatever the dtype of rho, and rounded once (in float32 on devices without
float64).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._tensors import wide
from .area import log_area
from .normal import ProposalNoise


def log_prob_at_mode(rho: Tensor, d: int) -> Tensor:
    """log p(mu) = (d - 1) log((1 + rho)/(1 - rho)) - log_area."""
    return log_prob_at_mode_over_uniform(rho, d) - log_area(d)


def log_prob_at_mode_dkappa(rho: Tensor, d: int) -> Tensor:
    """d/drho log p(mu) = 2 (d - 1)/(1 - rho^2)."""
    return 2 * (d - 1) / _one_minus_square(rho)


def log_prob_at_mode_dkappa2(rho: Tensor, d: int) -> Tensor:
    """d2/drho2 log p(mu) = 4 (d - 1) rho/(1 - rho^2)^2."""
    square = _one_minus_square(rho)
    return 4 * (d - 1) * rho / square / square


def log_prob_at_mode_over_uniform(rho: Tensor, d: int) -> Tensor:
    """log p(mu) + log_area = (d - 1) log1p(2 rho/(1 - rho))."""
    return (d - 1) * (2 * rho / gap(rho)).log1p()


def log_prob_ratio(rho: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """log p(x) - log p(mu) = -(d - 1) log1p(4 rho sin2/(1 - rho)^2), finite at the antipode."""
    return -(d - 1) * (4 * rho * sin2 / gap(rho).square()).log1p()


def log_prob_ratio_dt(rho: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/dt log p(x) = 2 (d - 1) rho/(1 + rho^2 - 2 rho t)."""
    return 2 * (d - 1) * rho / _distance(rho, sin2)


def log_prob_ratio_dkappa(rho: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/drho = -4 (d - 1) (1 + rho) sin2/((1 - rho) (1 + rho^2 - 2 rho t))."""
    return -4 * (d - 1) * (1 + rho) / gap(rho) * (sin2 / _distance(rho, sin2))


def mean_resultant_length(rho: Tensor, d: int) -> Tensor:
    """E[t] = 2 rho/(1 + rho^2) (1 - variance_orthogonal)."""
    r = wide(rho)
    return (2 * r / (1 + r * r) * (1 - variance_orthogonal(r, d))).to(rho.dtype)


def mean_resultant_length_dkappa(rho: Tensor, d: int) -> Tensor:
    """d/drho E[t] = 2 (d - 1)/(1 - rho^2) variance_orthogonal."""
    r = wide(rho)
    return (2 * (d - 1) / _one_minus_square(r) * variance_orthogonal(r, d)).to(rho.dtype)


def variance_orthogonal(rho: Tensor, d: int) -> Tensor:
    """E[1 - t^2]/(d - 1) = E[w/(1 + q + w)], the variance in each direction orthogonal to mu."""
    more = 1 + q_of(wide(rho)).unsqueeze(-1)
    return expectation(lambda w: w / (more + w), d, more).to(rho.dtype)


def kl_uniform(rho: Tensor, d: int) -> Tensor:
    """KL(p || uniform) = (d - 1)/2 E[log1p(q/(1 + w))]."""
    return kl_at(q_of(wide(rho)), d).to(rho.dtype)


def kl_uniform_dkappa(rho: Tensor, d: int) -> Tensor:
    """d/drho KL(p || uniform) = 2 (d - 1) E[t]/(1 - rho^2)."""
    r = wide(rho)
    return (2 * (d - 1) / _one_minus_square(r) * mean_resultant_length(r, d)).to(rho.dtype)


def sample(
    rho: Tensor, d: int, p: Tensor, s: Tensor, noise: ProposalNoise
) -> tuple[Tensor, Tensor]:
    """t and r of a sample x = t mu + r g': the Moebius map that carries 0 to rho mu, of g/|g|.

    p = g . mu and s = |g'|^2/2. Nothing is rejected, so ``noise`` is not used.
    """
    length = (p * p + 2 * s).sqrt()
    above = torch.where(p > 0, length + p, 2 * s / (length - p))  # |g| + p
    low = gap(rho).square() * length
    inverse = 1 / (low + 2 * rho * above)
    return ((1 + rho * rho) * above - low) * inverse, _one_minus_square(rho) * inverse


def implicit_gradient(rho: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """(dt/drho)/(1 - t^2) = 2/(1 - rho^2) at a fixed quantile of t."""
    return (2 / _one_minus_square(rho)).expand(torch.broadcast_shapes(rho.shape, sin2.shape))


def kl_at(q: Tensor, d: int) -> Tensor:
    """KL of a distribution at the pseudo-hyperbolic distance r from another, for
    q = (2 r/(1 - r^2))^2."""
    q = q.unsqueeze(-1)
    return (d - 1) / 2 * expectation(lambda w: (q / (1 + w)).log1p(), d, q)


def expectation(f: Callable[[Tensor], Tensor], d: int, like: Tensor) -> Tensor:
    """E[f(w)] over the last dimension, w = u^2/(1 - u^2) = sinh^2 x for the cosine u = tanh x of a
    uniform point, by the midpoint rule in x; csrc/math/spherical_cauchy.h has its error."""
    b = (d - 1) / 2
    step, reach = 0.43 / math.sqrt(b + 4), 78.0
    if b > 1 and 20 / (b - 1) < reach:
        y = 20 / (b - 1)  # acosh(e^y)
        reach = y + math.log1p(math.sqrt(-math.expm1(-2 * y)))
    nodes = torch.arange(math.ceil(reach / step - 0.5), dtype=like.dtype, device=like.device)
    w = ((nodes + 0.5) * step).sinh().square()
    weights = (-b * w.log1p()).exp()
    return (weights / weights.sum() * f(w)).sum(-1)


def gap(rho: Tensor) -> Tensor:
    """1 - rho."""
    return 1 - rho


def q_of(rho: Tensor) -> Tensor:
    """(2 rho/(1 - rho^2))^2."""
    return (2 * rho / _one_minus_square(rho)).square()


def _one_minus_square(rho: Tensor) -> Tensor:
    """1 - rho^2, in the form whose derivative -2 rho does not cancel on either side."""
    inside = gap(rho)
    return torch.where(inside > 0.5, 1 - rho * rho, inside * (1 + rho))


def _distance(rho: Tensor, sin2: Tensor) -> Tensor:
    """1 + rho^2 - 2 rho t = |x - rho mu|^2."""
    return gap(rho).square() + 4 * rho * sin2

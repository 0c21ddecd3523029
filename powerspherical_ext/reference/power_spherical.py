"""Power Spherical, scalar functions of (kappa, d) and of sin2 = (1 - t)/2, cos2 = (1 + t)/2.

The same names as csrc/math/power_spherical.h, where derivations, error bounds and sources stand;
b = (d - 1)/2, a = b + kappa, s = a + b throughout. kappa, sin2, cos2 are tensors of one dtype,
float32 or float64, of any shapes that broadcast; d is an int. There is no control flow on tensor
values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import exponential_form
from .area import log_area
from .gamma import sample_gamma
from .normal import ProposalNoise
from .power_spherical_coefficients import IMPLICIT_GRADIENT, MODE_BASE
from .stirling import (
    bregman_log_gamma_ratio,
    digamma_difference,
    raises,
    series_start,
    stirling_remainder,
    trigamma_difference,
    x_minus_log1p,
)

_ANTIPODE = {torch.float32: 1e-30, torch.float64: 1e-290}  # cos2 below it has a gradient of zero


def log_prob_at_mode(kappa: Tensor, d: int) -> Tensor:
    """log p(mu) = log C + kappa log 2 = log Gamma(s) - log Gamma(a) - b log(4 pi).

    Derivatives of any order are those of Stirling's series; near the zero of log p(mu), for
    d >= 8, the value is that of a series about the zero, which rounds less.
    """
    value = _at_mode_by_stirling(kappa, d)
    if d < min(MODE_BASE):
        return value
    b = (d - 1) / 2
    kappa0, c0 = MODE_BASE[d] if d in MODE_BASE else (0.0, -log_area(d))
    constant = kappa.detach()
    x = (constant - kappa0) / (b + kappa0)
    near = (x >= -0.4) & (x <= 0.85) & (constant + b >= (7 if kappa.dtype == torch.float64 else 5))
    close = _at_mode_near_zero(torch.where(near, constant, kappa0 + 1), b, kappa0, c0)
    return value + torch.where(near, close - value.detach(), 0.0)


def log_prob_at_mode_dkappa(kappa: Tensor, d: int) -> Tensor:
    """d/dkappa log p(mu) = psi(s) - psi(a) = -E[log cos2] > 0."""
    b = (d - 1) / 2
    a, n = kappa + b, raises(b, kappa.dtype)
    small = a < series_start(a.dtype)
    top = torch.where(small, kappa + (b + n), a)
    top_s = torch.where(small, kappa + (2 * b + n), kappa + 2 * b)
    total = digamma_difference(b, 1 / top, 1 / top_s)
    for i in reversed(range(n)):
        term = b / ((kappa + (b + i)) * (kappa + (2 * b + i)))
        total = total + torch.where(small, term, 0.0)
    return total


def log_prob_at_mode_dkappa2(kappa: Tensor, d: int) -> Tensor:
    """d2/dkappa2 log p(mu) = psi'(s) - psi'(a) = -Var[log cos2] < 0."""
    b = (d - 1) / 2
    a, n = kappa + b, raises(b, kappa.dtype)
    small = a < series_start(a.dtype)
    top = torch.where(small, kappa + (b + n), a)
    top_s = torch.where(small, kappa + (2 * b + n), kappa + 2 * b)
    total = trigamma_difference(b, 1 / top, 1 / top_s)
    for i in reversed(range(n)):
        ai, si = kappa + (b + i), kappa + (2 * b + i)
        term = (b / (ai * si)) ** 2 * ((ai + si) / b)
        if i == 0:
            lost = torch.where(kappa < b, kappa - (ai - b), b - (ai - kappa)).detach()
            slope = (1 / ai + 1 / si) * (1 + 0.25 / ai)
            total = total - torch.where(small, lost * slope * term, 0.0)
        total = total + torch.where(small, term, 0.0)
    return -total


def log_prob_at_mode_over_uniform(kappa: Tensor, d: int) -> Tensor:
    """log p(mu) + log_area."""
    return exponential_form.log_prob_at_mode_over_uniform(
        kappa, kl_uniform(kappa, d), log_prob_at_mode_dkappa(kappa, d)
    )


def mean_resultant_length(kappa: Tensor, d: int) -> Tensor:
    """E[t] = kappa / (d - 1 + kappa) = 1 - (d - 1)/(d - 1 + kappa).

    The second form where kappa > d - 1, so that autograd's derivative does not cancel.
    """
    total = kappa + (d - 1)
    return torch.where(kappa > d - 1, 1 - (d - 1) / total, kappa / total)


def mean_resultant_length_dkappa(kappa: Tensor, d: int) -> Tensor:
    """d/dkappa E[t] = (d - 1) / (d - 1 + kappa)^2."""
    total = kappa + (d - 1)
    return (d - 1) / total / total


def sample(
    kappa: Tensor, d: int, p: Tensor, s: Tensor, noise: ProposalNoise
) -> tuple[Tensor, Tensor]:
    """t and r of a sample x = t mu + r g': (G - s)/(G + s) and sqrt(2 G)/(G + s), G ~ Gamma(a).

    The inverse stereographic image of a multivariate t; s = |g'|^2/2 ~ Gamma(b), and p, independent
    of it, is the first normal of the gamma sampler.
    """
    gamma = sample_gamma((d - 1) / 2 + kappa, p, noise)
    inverse = 1 / (gamma + s)
    return (gamma - s) * inverse, (2 * gamma).sqrt() * inverse


def kl_uniform(kappa: Tensor, d: int) -> Tensor:
    """KL(PS(kappa) || uniform) = log p(mu) - kappa d/dkappa log p(mu) + log_area, as a Bregman
    divergence. The entropy is log_area - kl_uniform."""
    b = (d - 1) / 2
    return bregman_log_gamma_ratio(b, b, kappa + b, kappa, raises(b, kappa.dtype))


def kl_uniform_dkappa(kappa: Tensor, d: int) -> Tensor:
    """d/dkappa KL(PS(kappa) || uniform)."""
    return exponential_form.kl_uniform_dkappa(kappa, log_prob_at_mode_dkappa2(kappa, d))


def log_prob_ratio(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """log p(x) - log p(mu) = kappa log cos2; at the antipode cos2 = 0: -inf, or 0 for kappa = 0.

    The gradient in cos2 is zero at the antipode, and so near it that its products would overflow.
    """
    held = torch.where(cos2 < _ANTIPODE[cos2.dtype], cos2.detach(), cos2)
    impossible = ((cos2 == 0) & (kappa > 0)).to(cos2.dtype)
    return kappa * _log_of_cos2(sin2, held) + (-impossible).log1p()  # log1p(-1) = -inf


def log_prob_ratio_dt(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/dt (kappa log cos2) = kappa/(1 + t) = kappa/(2 cos2); 0 at the antipode by definition."""
    antipode = cos2 < _ANTIPODE[cos2.dtype]
    return kappa / (2 * torch.where(antipode, torch.inf, cos2))


def log_prob_ratio_dkappa(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/dkappa (kappa log cos2) = log cos2; 0 at the antipode by definition."""
    return torch.where(cos2 == 0, 0.0, _log_of_cos2(sin2, cos2))


def implicit_gradient(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """(dt/dkappa)/(1 - t^2) = q/2, q = (dcos2/da)/(cos2 sin2), at a fixed quantile of cos2 ~
    Beta(a, b).

    a is raised to where the expansion in 1/a holds, and q brought down by
        q(a, b) = [1/a - c + s cos2 q(a + 1, b)]/a,    c = log cos2 - E[log cos2];
    for small a and small sin2, above the mean, by raising b to infinity:
        q(a, b) = [c + s sin2 q(a, b + 1)]/b.
    """
    double = kappa.dtype == torch.float64
    a_min, l_max, far_raise = (16.0, 1.75, 16) if double else (8.0, 1.5, 8)
    b = (d - 1) / 2
    kappa, sin2, cos2 = torch.broadcast_tensors(kappa, sin2, cos2)
    cos2 = cos2.clamp(min=torch.finfo(cos2.dtype).tiny)
    log_cos2 = _log_of_cos2(sin2, cos2)
    a = kappa + b

    count = (a_min - a).ceil().clamp(min=0)
    count = torch.where(log_cos2 + (b / (a + count)).log1p() < -l_max, count + far_raise, count)
    top = a + count
    l_top = (log_cos2 + (b / top).log1p()).clamp(min=-l_max)
    q = _implicit_gradient_expansion(top, b, l_top)
    centered = log_cos2 + digamma_difference(b, 1 / top, 1 / (top + b))
    for i in reversed(range(max(0, math.ceil(a_min - b)) + far_raise)):
        ai, si = a + i, a + i + b
        inv = 1 / (ai * si)
        active = i < count
        next_centered = centered + b * inv
        next_q = si * inv * ((si * inv - next_centered) + si * cos2 * q)
        centered = torch.where(active, next_centered, centered)
        q = torch.where(active, next_q, q)
    if b >= a_min:
        return 0.5 * q

    sin2_series, terms = (0.25, 64) if double else (0.45, 32)
    above = (a < a_min) & (sin2 < sin2_series) & (centered >= 0)
    sin2_small = torch.where(above, sin2, 0.0)
    total, term, harmonic = centered, torch.ones_like(a), torch.zeros_like(a)
    for i in range(terms):
        si = a + b + i
        term = term * sin2_small * si / (b + 1 + i)
        harmonic = harmonic + 1 / si
        total = total + term * (centered + harmonic)
    return 0.5 * torch.where(above, total / b, q)


def _log_of_cos2(sin2: Tensor, cos2: Tensor) -> Tensor:
    """log cos2, from the smaller of sin2 and cos2 = 1 - sin2; 0 at the antipode, which callers
    treat.

    One of the two logarithms is that of 1. The factors 0 and 1 select as torch.where does, which
    takes ten times as long on a CPU as a product.
    """
    upper = (sin2 < cos2).to(cos2.dtype)
    one = upper + (cos2 == 0).to(cos2.dtype)
    return (-sin2 * upper).log1p() + (cos2 * (1 - upper) + one).log()


def _at_mode_by_stirling(kappa: Tensor, d: int) -> Tensor:
    """b log(s/(4 pi)) - a m(v) - log1p(v)/2 + Delta(s) - Delta(a), v = b/a, m(v) = v - log1p(v)."""
    b = (d - 1) / 2
    n, product = raises(b, kappa.dtype), torch.ones_like(kappa)
    small = kappa + b < series_start(kappa.dtype)
    for i in range(n):
        product = torch.where(small, product * (1 + b / (kappa + (b + i))), product)
    a = torch.where(small, kappa + (b + n), kappa + b)
    s = torch.where(small, kappa + (2 * b + n), kappa + 2 * b)
    v = b / a
    remainder = stirling_remainder(1 / s) - stirling_remainder(1 / a)
    return b * (s / (4 * math.pi)).log() - (
        (a * x_minus_log1p(v) + 0.5 * v.log1p()) - remainder + product.log()
    )


def _at_mode_near_zero(kappa: Tensor, b: float, kappa0: float, c0: float) -> Tensor:
    """log p(mu) from its value c0 at kappa0; every term vanishes with delta = kappa - kappa0."""
    delta, a, a0 = kappa - kappa0, kappa + b, b + kappa0
    s, s0 = kappa + 2 * b, a0 + b
    inv_a0, inv_s0 = torch.full_like(a, 1 / a0), torch.full_like(a, 1 / s0)
    remainder = (stirling_remainder(1 / s) - stirling_remainder(inv_s0)) - (
        stirling_remainder(1 / a) - stirling_remainder(inv_a0)
    )
    second = (a0 - 0.5) * x_minus_log1p(delta * inv_a0) - (s0 - 0.5) * x_minus_log1p(delta * inv_s0)
    return c0 + (
        delta * (b / a).log1p() + (second + (0.5 * delta * b * inv_a0 * inv_s0 + remainder))
    )


def _implicit_gradient_expansion(a: Tensor, b: float, log_ratio: Tensor) -> Tensor:
    """q = (1/a) sum_k a^-k sum_{j<=k} x^j Q_kj(l), x = a/s, l = log(cos2/x)."""
    order, degree = (10, 24) if a.dtype == torch.float64 else (4, 8)
    row = order * (order + 3) // 2
    x, inv_a, sums = a / (a + b), 1 / a, torch.zeros_like(a)
    near = log_ratio.abs() < 1e-3
    safe = torch.where(near, 1.0, log_ratio)
    first = torch.where(near, 1 + log_ratio * (-0.5 + log_ratio * (1 / 12)), safe / safe.expm1())
    # [..., row]: Horner's rule in l for every Q_kj at once.
    rows = [row[: degree + 1] for row in IMPLICIT_GRADIENT[:row]]
    table = torch.tensor(rows, dtype=a.dtype, device=a.device)
    in_l = torch.zeros_like(a).unsqueeze(-1) + table[:, degree]
    for n in range(degree - 1, -1, -1):
        in_l = in_l * log_ratio.unsqueeze(-1) + table[:, n]
    for k in range(order, 0, -1):
        in_x = torch.zeros_like(a)
        for _ in range(k + 1):
            row -= 1
            in_x = in_x * x + in_l[..., row]
        sums = sums * inv_a + in_x
    return inv_a * (first + inv_a * sums)

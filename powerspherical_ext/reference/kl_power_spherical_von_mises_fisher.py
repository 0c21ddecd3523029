"""KL between Power Spherical and von Mises-Fisher, either way round, any two mean directions.

See csrc/math/kl_power_spherical_von_mises_fisher.h. sin2 = w = (1 - mu_p . mu_q)/2 and cos2 = 1 -
sin2.
Computed in float64 and rounded once. Derivatives are autograd's, on fixed quadrature nodes. The
second divergence takes megabytes per row for d < 50, and is evaluated ROWS rows at a time; autograd
keeps those of all rows until the backward pass. It is a specification, not a kernel.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .._tensors import by_rows, wide
from . import power_spherical
from .stirling import x_minus_log1p
from .von_mises_fisher import kl_uniform, moments

HALF, STEP = 80, 0.4  # half the steps of the first quadrature; the step of the second in log s
ROWS = 256


class _Law(NamedTuple):
    """log density of e at the nodes, log(cos2/cos2_0) and log(Q/P), up to constants; node
    weights.
    """

    log_weight: Tensor
    log_cos2: Tensor
    log_ratio: Tensor
    log_cos2_0: Tensor


def kl_from_power_spherical(
    kappa_p: Tensor, kappa_q: Tensor, d: int, sin2: Tensor, cos2: Tensor
) -> Tensor:
    """KL(PS(mu_p, kappa_p) || vMF(mu_q, kappa_q)) = same mean + 2 kappa_q sin2 E[t]."""
    dtype = torch.promote_types(kappa_p.dtype, kappa_q.dtype)
    p, q, w = torch.broadcast_tensors(wide(kappa_p), wide(kappa_q), wide(sin2))
    b = (d - 1) / 2
    a = p + b
    scale = (1 / a + 1 / b).sqrt()
    law = _law(b, b / (a + b), scale, 2 * q * a / (a + b) - p, p, a, p)
    near, excess, _ = _same_mean(law)
    own = power_spherical.log_prob_at_mode(p, d) - p * power_spherical.log_prob_at_mode_dkappa(p, d)
    closed = own - (moments(q, d).log_prob_at_mode - q * (2 * b / (2 * b + p)))
    length = power_spherical.mean_resultant_length(p, d)
    result: Tensor = (torch.where(near, excess, closed) + 2 * q * w * length).to(dtype)
    return result


def kl_from_von_mises_fisher(
    kappa_p: Tensor, kappa_q: Tensor, d: int, sin2: Tensor, cos2: Tensor
) -> Tensor:
    """KL(vMF(mu_p, kappa_p) || PS(mu_q, kappa_q)) = same mean + kappa_q E[log cos2(p) - log
    cos2(q)].
    """
    dtype = torch.promote_types(kappa_p.dtype, kappa_q.dtype)
    tensors = wide(kappa_p), wide(kappa_q), wide(sin2), wide(cos2)
    return by_rows(partial(_from_von_mises_fisher, d), ROWS, *tensors).to(dtype)


def _from_von_mises_fisher(d: int, p: Tensor, q: Tensor, w: Tensor, rest: Tensor) -> Tensor:
    """Of arguments of one shape, in their own dtype."""
    b = (d - 1) / 2
    root = (b * b + p * p).sqrt()
    sin2_0, t0 = 0.5 * b * (1 + b / (root + p)) / (b + root), p / (b + root)
    scale = 1 / (sin2_0 * (1 + t0) * (b + p * t0)).sqrt()
    law = _law(b, sin2_0, scale, q - p * (1 + t0), -q, None, p)
    near, excess, minus_log_cos2 = _same_mean(law)
    own = moments(p, d)
    closed = (
        own.log_prob_at_mode
        - p * own.one_minus_mean
        - power_spherical.log_prob_at_mode(q, d)
        + q * minus_log_cos2
    )
    return torch.where(near, excess, closed) + q * mean_log_cos2_gap(p, d, w, rest)


def _law(
    b: float,
    sin2_0: Tensor,
    scale: Tensor,
    slope: Tensor,
    bend: Tensor,
    a: Tensor | None,
    p: Tensor,
) -> _Law:
    """P at e = scale sinh(tau); a is that of Power Spherical, None for von Mises-Fisher."""
    sin2_0, scale, slope, bend, p = (
        x.unsqueeze(-1) for x in (sin2_0, scale.detach(), slope, bend, p)
    )
    cos2_0 = 1 - sin2_0
    step = (45 / b / scale).clamp(min=14).asinh() / HALF
    tau = step * torch.arange(-HALF, HALF + 1, dtype=sin2_0.dtype, device=sin2_0.device)
    e = scale * tau.sinh()
    up = e.expm1()
    q = sin2_0 * up / (1 + cos2_0 * up)
    far = q < -0.5
    log_cos2 = torch.where(far, e - (cos2_0 * up).log1p(), torch.where(far, 0.0, q).log1p())
    bent = torch.where(far, q - log_cos2, x_minus_log1p(torch.where(far, 0.0, q)))
    if a is None:
        log_weight = b * e - 2 * b * (cos2_0 * up).log1p() + 2 * p * cos2_0 * q
    else:
        log_weight = -b * e - (a.unsqueeze(-1) + b) * (sin2_0 * (-e).expm1()).log1p()
    log_cos2_0 = (-sin2_0.squeeze(-1)).log1p()
    return _Law(log_weight + tau.cosh().log(), log_cos2, slope * q + bend * bent, log_cos2_0)


def _same_mean(law: _Law) -> tuple[Tensor, Tensor, Tensor]:
    """Whether Q is near P; log E e^l = log1p(E[e^l - 1 - l]), l = log(Q/P) centred; -E log cos2."""
    weight = law.log_weight.exp()
    weight = weight / weight.sum(-1, keepdim=True)
    x = law.log_ratio - (weight * law.log_ratio).sum(-1, keepdim=True)
    spread = (weight * x * x).sum(-1)
    small, large = x.abs() < 0.01, x >= 1
    v = torch.where(small, x, 0.0)
    series = v * v * (0.5 + v * (1 / 6 + v * (1 / 24 + v * (1 / 120 + v / 720))))
    middle = torch.where(small | large, 0.0, x)
    scaled = (weight.clamp(min=1e-300).log() + torch.where(large, x, 0.0)).clamp(max=40)
    excess = torch.where(large, scaled.exp() - weight * (1 + x), weight * (middle.expm1() - middle))
    excess = torch.where(small, weight * series, excess).sum(-1).log1p()
    near = (spread < 3) & (excess < 2)
    return near, excess, -(law.log_cos2_0 + (weight * law.log_cos2).sum(-1))


def mean_log_cos2_gap(k: Tensor, d: int, w: Tensor, rest: Tensor) -> Tensor:
    """E log cos2(mu_p) - E log cos2(mu_q) >= 0 under vMF(mu_p, k), w = 1 - rest = (1 - mu_p .
    mu_q)/2.
    """
    apart, neither = (k > 0) & (w > 0), k * w  # 0 or NaN
    k, w = torch.where(apart, k, 1.0).unsqueeze(-1), torch.where(apart, w, 0.5).unsqueeze(-1)
    b, rest = (d - 1) / 2, torch.where(apart, rest, 0.5).unsqueeze(-1)
    last = 4 + (2 * (k.detach() + d)).log() + 28 / b
    count = math.ceil((68 + 28 / b) / STEP)  # 2 (k + d) up to UPPER_BOUND
    log_s = -28 + (last + 28) * torch.arange(count, dtype=k.dtype, device=k.device) / count
    s = log_s.exp()
    # In units of k, so that no derivative in k is a difference of large terms.
    ratio = s / k
    r0, gain, r_sum = (1 - 0.5 * ratio).abs(), 2 * ratio * w, 1 + 0.5 * ratio
    r1 = (r0 * r0 + gain).sqrt()
    k0, rise = k * r0, 2 * s * w / (r1 + r0)
    dense = k * r_sum > d
    close = (rise < 0.1 * (b + k0)) & ~(dense & (rise > 1))
    own, moment = moments(k, d), _log_moment(k, d)

    def exponent(ri: Tensor, share: Tensor | float, away: Tensor | float) -> Tensor:
        ki = k * ri
        at = moments(ki, d)
        behind = s * (away - 0.25 * ratio) / (1 + ri)  # k - ki
        slope = 0.5 * behind * (own.one_minus_mean + at.one_minus_mean)
        fall = own.log_prob_at_mode - at.log_prob_at_mode
        fall = torch.where(behind.abs() < 1e-5 * (b + k), slope, fall)
        by_peak = fall - 2 * s * share / (ri + r_sum)
        by_moment = _log_moment(torch.where(dense, k, ki), d) - moment - 0.5 * s
        return torch.where(dense, by_peak, by_moment)

    x0, x1 = exponent(r0, 1.0, 1.0), exponent(r1, rest, rest - w)
    inner = torch.zeros_like(k0)
    for node, weight in (
        (0.33998104358485626, 0.65214515486254614),
        (0.86113631159405258, 0.34785484513745386),
    ):
        for side in (0.5 * node, -0.5 * node):
            inner = inner + weight * moments(k0 + rise * (0.5 + side), d).mean
    inner = torch.where(close, 0.5 * rise * inner, 0.0)
    tiny = close & (inner < 1)
    near = x0.exp() * torch.where(tiny, inner, 0.0).expm1()
    upper = torch.where(close, x0 + inner, x1)
    integrand = torch.where(tiny, near, upper.exp() - x0.exp())
    result = integrand.sum(-1) * ((last + 28) / count).squeeze(-1)
    return torch.where(apart, result, neither)


def _log_moment(kappa: Tensor, d: int) -> Tensor:
    """log 0F1(; v + 1; kappa^2/4) = kappa A - KL(vMF || uniform)."""
    return kappa * moments(kappa, d).mean - kl_uniform(kappa, d)

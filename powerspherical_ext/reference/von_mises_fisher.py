"""von Mises-Fisher, scalar functions of (kappa, d) and of sin2 = (1 - t)/2, cos2 = (1 + t)/2.

The same names as csrc/math/von_mises_fisher.h, where derivations and sources stand; b = (d - 1)/2,
v = d/2 - 1, m = d - 1, A = A_d(kappa) = I_{v+1}(kappa)/I_v(kappa) = E[t]. kappa, sin2, cos2 are
tensors of shapes that broadcast, d is an int; there is no control flow on tensor values.

The densities, moments and their derivatives are evaluated in float64 whatever the dtype of kappa,
and rounded once (on mps, which has no float64, in float32). Only `sample` stays in its own dtype,
so that it accepts and rejects as the kernels do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .._tensors import wide
from . import exponential_form
from .area import log_area
from .gamma import log1p_minus_cubic
from .normal import ProposalNoise, first_accepted, replace_first
from .quadrature import GAUSS_LEGENDRE
from .stirling import stirling_remainder, x_minus_log1p
from .von_mises_fisher_coefficients import DEBYE

DEBYE_RADIUS = 28.0  # Debye's expansion to 1/R^20 is used where R = sqrt(v^2 + kappa^2) >= this
KUMMER_TERMS = 132  # of 1F1(b; 2b; 2 kappa) below: the rest is under 1e-17 of the sum
BESSEL_TERMS = 40  # of 0F1(; v + 1; kappa^2/4) below, where kappa < d: likewise


def log_prob_at_mode(kappa: Tensor, d: int) -> Tensor:
    """log p(mu) = log C + kappa."""
    return moments(wide(kappa), d).log_prob_at_mode.to(kappa.dtype)


def log_prob_at_mode_dkappa(kappa: Tensor, d: int) -> Tensor:
    """d/dkappa log p(mu) = 1 - A = E[1 - t] > 0."""
    return moments(wide(kappa), d).one_minus_mean.to(kappa.dtype)


def log_prob_at_mode_dkappa2(kappa: Tensor, d: int) -> Tensor:
    """d2/dkappa2 log p(mu) = -A' = -Var[t] < 0."""
    return -moments(wide(kappa), d).variance.to(kappa.dtype)


def log_prob_at_mode_over_uniform(kappa: Tensor, d: int) -> Tensor:
    """log p(mu) + log_area."""
    k = wide(kappa)
    return exponential_form.log_prob_at_mode_over_uniform(
        k, kl_uniform(k, d), log_prob_at_mode_dkappa(k, d)
    ).to(kappa.dtype)


def mean_resultant_length(kappa: Tensor, d: int) -> Tensor:
    """E[t] = A."""
    return moments(wide(kappa), d).mean.to(kappa.dtype)


def mean_resultant_length_dkappa(kappa: Tensor, d: int) -> Tensor:
    """d/dkappa A_d = A_d', the variance of t."""
    return moments(wide(kappa), d).variance.to(kappa.dtype)


def kl_uniform(kappa: Tensor, d: int) -> Tensor:
    """KL(vMF(kappa) || uniform) = kappa A - log 0F1(; v + 1; kappa^2/4)."""
    k, v = wide(kappa), d / 2 - 1
    small = (k < 1) | ((k < d) & (k * k + v * v < DEBYE_RADIUS**2))
    safe = torch.where(small, k, 1.0)
    # u_n = (kappa^2/4)^n / (n! (v + 1)_n), scaled by a power of 2 that kappa^2/4 stays below
    scale, coefficients = 256.0, [1.0]
    for i in range(1, BESSEL_TERMS + 1):
        coefficients.append(coefficients[-1] * scale / (i * (v + i)))
    n = _range(1, BESSEL_TERMS + 1, k)
    u = (row(coefficients, k) * _powers(safe * safe / (4 * scale), BESSEL_TERMS + 1))[..., 1:]
    total = u.sum(-1)
    low = 2 * (n * u).sum(-1) / (1 + total) - total.log1p()

    k = torch.where(small, DEBYE_RADIUS, k)
    if v < 12:
        a = moments(k, d)
        high = a.log_prob_at_mode_over_uniform - k * a.one_minus_mean
    else:
        r = (v * v + k * k).sqrt()
        value, first, _ = _debye_sums(1 / r, (v / r) ** 2)
        ratio = k / v
        delta = stirling_remainder(torch.full_like(k, 1 / v))
        high = v * (0.5 * ratio * (k / (r + v))).log1p() + (
            0.25 * (ratio * ratio).log1p() - (k / r) ** 2 * (0.5 + first) - (value + delta)
        )
    return torch.where(small, low, high).to(kappa.dtype)


def kl_uniform_dkappa(kappa: Tensor, d: int) -> Tensor:
    """d/dkappa KL(vMF(kappa) || uniform) = kappa A'."""
    k = wide(kappa)
    return exponential_form.kl_uniform_dkappa(k, log_prob_at_mode_dkappa2(k, d)).to(kappa.dtype)


def log_prob_ratio(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """log p(x) - log p(mu) = -kappa (1 - t) = -2 kappa sin2."""
    return -2 * kappa * sin2


def log_prob_ratio_dt(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/dt (-2 kappa sin2) = kappa."""
    return kappa.expand(torch.broadcast_shapes(kappa.shape, sin2.shape))


def log_prob_ratio_dkappa(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """d/dkappa (-2 kappa sin2) = -2 sin2."""
    return -2 * sin2


def implicit_gradient(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """(dt/dkappa)/(1 - t^2) at a fixed quantile of t.

    R = sqrt(m^2 + 4 kappa^2) >= 100, away from the far tails: expansion in 1/R; else quadrature.
    """
    dtype = torch.promote_types(kappa.dtype, sin2.dtype)
    kappa, sin2, cos2 = torch.broadcast_tensors(wide(kappa), wide(sin2), wide(cos2))
    m = d - 1
    r = (m * m + 4 * kappa * kappa).sqrt()
    ratio = kappa / r
    e = m * (1 + m / (r + 2 * kappa)) / (m + r) - 2 * sin2
    u = e / (1 + ratio * e)
    expand = (r >= 100) & (u >= -1.5) & (u <= 0.8)
    by_series = _implicit_gradient_expansion(r, m, ratio, torch.where(expand, u, 0.0))
    return torch.where(expand, by_series, _implicit_gradient_quadrature(kappa, d, sin2, cos2)).to(
        dtype
    )


def sample(
    kappa: Tensor, d: int, p: Tensor, s: Tensor, noise: ProposalNoise
) -> tuple[Tensor, Tensor]:
    """(t, r) of a sample x = t mu + r g', from p = g . mu and s = |g'|^2 / 2 ~ Gamma(b).

    d = 3: closed form. d >= 4: gamma envelope for kappa >= b, else Wood (1994). d = 2: Wood, which
    is Best & Fisher (1979). A proposal is accepted if -2 log U >= cost = -2 log(acceptance).
    """
    s = s.clamp(min=1e-37 if s.dtype == torch.float32 else 1e-300)
    if d == 3:
        return _coefficients(*_half_angle_on_sphere(kappa, s), s)
    b, m = (d - 1) / 2, d - 1
    k = kappa.unsqueeze(-1)  # what is not s or a result is [..., trial] from here on
    concentrated = (k >= b) & (d > 3)

    dense = torch.where(concentrated, k, b + 1)
    q = 2 * dense + 2 * b - 1
    tangent = 2 * b / (q + ((2 * dense - 1) ** 2 + max(4 * b * (b - 1), 0.0)).sqrt())
    rate = dense + 0.5 * (b - 1) / (1 - tangent)

    radius = (m * m + 4 * k * k).sqrt()
    beta = m / (radius + 2 * k)
    sin2_w, slope = 0.5 * m * (1 + beta) / (m + radius), 2 * k / m

    sin2, cos2 = torch.full_like(s, 0.5), torch.full_like(s, 0.5)
    done = torch.zeros_like(s, dtype=torch.bool)
    for trial in range(0, 48 if d == 2 else 16, noise.at_once):
        uniform_s, uniform = noise.minus_two_logs(2 * trial, 2)
        uniform_p, _ = noise.minus_two_logs(2 * trial + 1, 2)
        from_s, cost_s = _gamma_proposal(b, noise.normals(2 * trial, 2))
        normals = noise.normals(2 * trial + 1, 2)
        if trial == 0:
            from_s = replace_first(s, from_s)
            cost_s = replace_first(torch.zeros_like(s), cost_s)
            normals = replace_first(p, normals)
            uniform_p = replace_first(uniform_s[..., 0], uniform_p)  # s itself needs none
        from_p, cost_p = _gamma_proposal(b, normals)

        sin2_dense = from_s / (2 * rate)
        inside = sin2_dense < 1
        gap = torch.where(inside, (tangent - sin2_dense) / (1 - tangent), 0.0)
        cost_dense = torch.where(inside, 2 * (b - 1) * x_minus_log1p(gap), torch.inf)

        share = beta * from_s
        inv = 1 / (from_p + share)
        cost_wood = 2 * m * x_minus_log1p(slope * (share * inv - sin2_w))

        cost = torch.where(concentrated, cost_dense, cost_wood)
        accepted = (uniform >= cost) & (uniform_s >= cost_s)
        accepted = accepted & (concentrated | (uniform_p >= cost_p))
        some, index = first_accepted(accepted)
        # Where none is accepted, the last that has a sin2 stands in.
        numbers = torch.arange(noise.at_once, device=s.device)
        last = torch.where(inside | ~concentrated, numbers, -1).amax(-1, keepdim=True)
        index = torch.where(some.unsqueeze(-1), index, last.clamp(min=0))
        chosen = ~done & (some | (last.squeeze(-1) >= 0))
        new_sin2 = torch.where(concentrated, sin2_dense, share * inv).gather(-1, index)
        new_cos2 = torch.where(concentrated, 1 - sin2_dense, from_p * inv).gather(-1, index)
        sin2 = torch.where(chosen, new_sin2.squeeze(-1), sin2)
        cos2 = torch.where(chosen, new_cos2.squeeze(-1), cos2)
        done = done | some
    return _coefficients(sin2, cos2, s)


class Moments(NamedTuple):
    log_prob_at_mode: Tensor
    log_prob_at_mode_over_uniform: Tensor
    mean: Tensor
    one_minus_mean: Tensor
    variance: Tensor


def _range(start: int, stop: int, like: Tensor) -> Tensor:
    return torch.arange(start, stop, dtype=like.dtype, device=like.device)


def _powers(x: Tensor, count: int) -> Tensor:
    """x^0, ..., x^(count - 1) along a new last dimension. No derivative is NaN at x = 0."""
    x = x.unsqueeze(-1)
    powers = torch.cat([torch.ones_like(x), x], -1)
    while powers.shape[-1] < count:
        powers = torch.cat([powers, powers * (powers[..., -1:] * x)], -1)
    return powers[..., :count]


def row(values: list[float] | tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def moments(kappa: Tensor, d: int) -> Moments:
    """log p(mu), the same over the uniform density, A, 1 - A and A'.

    See csrc/math/von_mises_fisher_moments.h.
    """
    v = d / 2 - 1
    if v >= DEBYE_RADIUS:
        return _debye(kappa, d)
    small = kappa * kappa + v * v < DEBYE_RADIUS**2
    low = _kummer(torch.where(small, kappa, 1.0), d)
    high = _debye(torch.where(small, DEBYE_RADIUS, kappa), d)
    return Moments(*(torch.where(small, x, sin2) for x, sin2 in zip(low, high, strict=True)))


def _debye_sums(inv_r: Tensor, p2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sum c_kj f(n) p^2j R^-k, n = k + 2j, for f = 1, n and [(1 - p^2)(n + 2) - 1] n."""
    order = len(DEBYE)
    rows = [list(row) + [0.0] * (order - k) for k, row in enumerate(DEBYE, 1)]
    c = torch.tensor(rows, dtype=p2.dtype, device=p2.device)  # [k, j]
    n = _range(1, order + 1, p2).unsqueeze(-1) + 2 * _range(0, order + 1, p2)
    in_p, in_r = _powers(p2, order + 1), _powers(inv_r, order + 1)[..., 1:]
    value, first, second = ((in_p @ (f * c).T * in_r).sum(-1) for f in (1, n, n * (n + 2)))
    return value, first, (1 - p2) * second - first


def _debye(kappa: Tensor, d: int) -> Moments:
    """Debye's expansion of I_v(kappa) (DLMF 10.41.3) in 1/R, R = sqrt(v^2 + kappa^2).

    A mean above 1/2 is 1 - (1 - A), so that autograd's derivative does not cancel.
    """
    v = d / 2 - 1
    r2 = kappa * kappa + v * v
    r = r2.sqrt()
    p2 = v * v / r2
    value, first, second = _debye_sums(1 / r, p2)
    half, ratio = (0.5 + first) / r2, v / (r + kappa)
    at_mode = v * (((v + r) / (2 * math.pi)).log() - ratio) + (
        0.5 * (r / (2 * math.pi)).log() - value
    )
    mean, one_minus_mean = kappa * (1 / (r + v) - half), v / (r + v) * (1 + ratio) + kappa * half
    return Moments(
        at_mode,
        at_mode + log_area(d),
        torch.where(mean > 0.5, 1 - one_minus_mean, mean),
        one_minus_mean,
        (v * r / (r + v) + (0.5 - p2 + second)) / r2,
    )


def _kummer(kappa: Tensor, d: int) -> Moments:
    """cos2 as a mixture of Beta(b + n, b), with weights t_n = (b)_n / (2b)_n (2 kappa)^n / n!."""
    b, m, t, coefficients = (d - 1) / 2, d - 1, 1.0, [1.0]
    scale = 64.0  # a power of 2, so that x / scale is exact
    for i in range(1, KUMMER_TERMS):
        t *= scale * (b + i - 1) / ((m + i - 1) * i)
        coefficients.append(t)
    n = _range(0, KUMMER_TERMS, kappa)
    x = 2 * kappa
    term = row(coefficients, kappa) * _powers(x / scale, KUMMER_TERMS)  # [..., n]
    total = term.sum(-1)
    weight = term / total.unsqueeze(-1)
    sin2 = b / (m + n)
    mean = (weight * sin2).sum(-1)
    within = (weight * (sin2 * (1 - sin2) / (m + n + 1))).sum(-1)
    between = (weight * (sin2 - mean.unsqueeze(-1)) ** 2).sum(-1)
    over_uniform = -((-x).exp() * total).log()
    return Moments(
        over_uniform - log_area(d),
        over_uniform,
        (weight * (n / (m + n))).sum(-1),
        2 * mean,
        4 * (within + between),
    )


def _implicit_gradient_expansion(r: Tensor, m: int, c: Tensor, u: Tensor) -> Tensor:
    """(1/R) sum_k R^-k Q_k(u), Q_0 = 1 - c u, Q_k = (1 - c u)^2 [G(u) Q_{k-1}'(u) - const]/u."""
    order = 10
    in_u, power = _powers(u, 2 * order + 2), _range(0, 2 * order + 2, r)
    h, c = (m / r).unsqueeze(-1), c.unsqueeze(-1)
    g0, g1, g2 = 2 * h / (1 + h), -4 * c, -0.5 * h * (1 + h)
    q = torch.cat([torch.ones_like(c), -c], -1)  # [..., power of u]
    total = (q * in_u[..., :2]).sum(-1)
    pad = torch.nn.functional.pad
    for k in range(1, order + 1):
        size = 2 * k
        slope = pad(q * power[:size], (0, 2))  # i q_i
        shifted = g2 * slope[..., :size] + g1 * slope[..., 1 : size + 1] + g0 * slope[..., 2:]
        q = pad(shifted, (0, 2)) - 2 * c * pad(shifted, (1, 1)) + c * c * pad(shifted, (2, 0))
        total = total + r**-k * (q * in_u[..., : size + 2]).sum(-1)
    return total / r


def _implicit_gradient_quadrature(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """(1/((1 - t^2) f(t))) integral |t' - A| f(t') dt' from t to the nearer pole, 64 nodes."""
    a, b, depth = moments(kappa, d), (d - 1) / 2, 40.0
    above = 2 * sin2 < a.one_minus_mean
    near, far = torch.where(above, sin2, cos2), torch.where(above, cos2, sin2)
    below = torch.where(sin2 < 0.5, sin2 - 0.5 * a.one_minus_mean, 0.5 * (1 + a.mean) - cos2)
    off = torch.where(above, 0.5 * a.one_minus_mean - sin2, below)
    rate = torch.where(above, 2 * kappa, -2 * kappa)

    # What lies beyond 1 - g^2 = kept is below e^-depth: a choice, not differentiated.
    k, near_, far_, rate_ = (x.detach() for x in (kappa, near, far, rate))
    lift = max(b - 1, 0.0)
    decay = b - 1 - near_ * (lift / far_ + rate_)
    kept = torch.where(decay > depth, depth / decay, 1.0)
    positive = torch.where(k > 0, k, 1.0)
    reach = (depth + lift * (depth / (positive * far_)).log1p()) / (2 * positive)
    reach = reach * (1.3 if b < 1 else 1.0)
    shorter = ~above & (k > 0) & (reach < kept * near_)
    kept = torch.where(shorter, reach / torch.where(shorter, near_, 1.0), kept)
    g0 = (1 - kept).clamp(min=0).sqrt().unsqueeze(-1)

    nodes, weights = (row(column, kappa) for column in GAUSS_LEGENDRE[64])
    gap = (1 - g0) * nodes
    g, step = 1 - gap, near.unsqueeze(-1) * gap * (2 - gap)
    exponent = (b - 1) * (step / far.unsqueeze(-1)).log1p() + rate.unsqueeze(-1) * step
    exponent = exponent + 2 * (b - 1) * g.log()
    total = (weights * exponent.exp() * (off.unsqueeze(-1) + step) * g).sum(-1)
    return 2 * total * (1 - g0.squeeze(-1)) / far


def _coefficients(sin2: Tensor, cos2: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    return cos2 - sin2, (2 * sin2 * (cos2 / s)).sqrt()


def _gamma_proposal(a: float, n: Tensor) -> tuple[Tensor, Tensor]:
    """Gamma(a) and its cost from a normal: n^2/2 if a = 1/2, Marsaglia & Tsang (2000) if a > 1."""
    if a < 1:
        return 0.5 * n * n, torch.zeros_like(n)
    m = a - 1 / 3
    w = n / (3 * math.sqrt(m))
    inside = w > -1
    w = torch.where(inside, w, 0.0)
    value = torch.where(inside, m * (1 + w) ** 3, 0.0)
    return value, torch.where(inside, -6 * m * log1p_minus_cubic(w), torch.inf)


def _half_angle_on_sphere(kappa: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """d = 3: 2 kappa sin2 = -log[1 - (1 - e^-s)(1 - e^(-2 kappa))], as 1 - e^-s is uniform."""
    x, s = torch.broadcast_tensors(2 * kappa, s)
    flat, small = x < 1e-30, x < 2
    low, high = torch.where(small & ~flat, x, 1.0), torch.where(small, 2.0, x)
    x_sin2 = torch.where(
        small,
        -torch.log1p(-torch.expm1(-s) * torch.expm1(-low)),
        s - torch.log1p(torch.expm1(s) * torch.exp(-high)),
    )
    over = torch.where(small, 1.0, high)
    x_cos2 = torch.where(
        small, (-s).exp() * low.expm1(), ((high - s).clamp(max=s)).exp() - (-s).exp()
    )
    safe = torch.where(small, low, over)
    sin2, cos2 = x_sin2 / safe, x_cos2.log1p() / safe
    upper = sin2 < 0.5
    sin2, cos2 = torch.where(upper, sin2, 1 - cos2), torch.where(upper, 1 - sin2, cos2)
    return torch.where(flat, -torch.expm1(-s), sin2), torch.where(flat, (-s).exp(), cos2)

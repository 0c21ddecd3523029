"""log Gamma(a + b) - log Gamma(a) and what follows from it; see csrc/math/stirling.h.

Derivations, ranges and sources stand there. Where the C++ branches on a value, these functions
select with torch.where, and keep both sides finite, so that no gradient turns into NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

# B_2k for k = 1, 2, ... (DLMF 24.2.1)
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798)


def series_start(dtype: torch.dtype) -> int:
    """Arguments below this are raised, as many times, before Stirling's series is used."""
    return 12 if dtype == torch.float64 else 5


def series_terms(dtype: torch.dtype) -> int:
    return 9 if dtype == torch.float64 else 4


def raises(b: float, dtype: torch.dtype) -> int:
    """How often a is raised where it is below series_start; 0 if a >= b never is."""
    return series_start(dtype) if b < series_start(dtype) else 0


def stirling_remainder(inv_x: Tensor) -> Tensor:
    """Delta(x) = sum_k B_2k / (2k (2k - 1)) x^(1 - 2k), from 1/x."""
    z = inv_x * inv_x
    total = torch.zeros_like(z)
    for k in range(series_terms(z.dtype), 0, -1):
        total = total * z + BERNOULLI[k - 1] / (2 * k * (2 * k - 1))
    return total * inv_x


def x_minus_log1p(x: Tensor) -> Tensor:
    """m(x) = x - log1p(x) = r x - 2 r^3 (1/3 + r^2/5 + ...), r = x/(2 + x), on -0.4 <= x <= 1."""
    near = (x >= -0.4) & (x <= 1)
    small = torch.where(near, x, 0.0)
    r = small / (2 + small)
    z = r * r
    total = torch.zeros_like(z)
    for k in range(33 if x.dtype == torch.float64 else 15, 1, -2):
        total = total * z + 1 / k
    large = torch.where(near, 1.0, x)
    return torch.where(near, r * (small - 2 * z * total), large - large.log1p())


def digamma_difference(b: float, inv_a: Tensor, inv_s: Tensor) -> Tensor:
    """psi(s) - psi(a), s = a + b, from 1/a and 1/s."""
    za, zs = inv_a * inv_a, inv_s * inv_s
    u = b * inv_a * inv_s
    w = u * (inv_a + inv_s)
    e, power, total = torch.ones_like(za), torch.ones_like(za), torch.zeros_like(za)
    for k in range(1, series_terms(za.dtype) + 1):
        total = total + BERNOULLI[k - 1] / (2 * k) * e
        power = power * zs
        e = za * e + power
    return (b * inv_a).log1p() + (0.5 * u + w * total)


def trigamma_difference(b: float, inv_a: Tensor, inv_s: Tensor) -> Tensor:
    """psi'(a) - psi'(s), s = a + b, from 1/a and 1/s."""
    za, zs, both = inv_a * inv_a, inv_s * inv_s, inv_a + inv_s
    u = b * inv_a * inv_s
    h, power, total = za + inv_a * inv_s + zs, zs * inv_s, torch.zeros_like(za)
    for k in range(1, series_terms(za.dtype) + 1):
        total = total + BERNOULLI[k - 1] * h
        h = za * h + power * both
        power = power * zs
    return u + (0.5 * u * both + u * total)


def bregman_log_gamma_ratio(
    b: float, x0: Tensor | float, x1: Tensor, delta: Tensor, raised: int
) -> Tensor:
    """g(x1) - g(x0) - (x1 - x0) g'(x1), g(x) = log Gamma(x + b) - log Gamma(x), delta = x1 - x0."""

    def log_part(lower: Tensor | float, upper: Tensor) -> Tensor:
        w = delta * b / (upper * (upper + b))
        return w * delta / lower - x_minus_log1p(w * upper / lower)

    def remainder(lower: Tensor | float, upper: Tensor) -> Tensor:
        p, r = 1 / lower, 1 / upper
        g, power, series = p + 0 * r, torch.ones_like(r), torch.zeros_like(r)
        for k in range(1, series_terms(r.dtype) + 1):
            series = series + BERNOULLI[k - 1] / (2 * k * (2 * k - 1)) * g
            power = power * r
            g = p * (g + 2 * k * power)
            power = power * r
            g = p * (g + (2 * k + 1) * power)
        return (delta * r) * (delta * r) * series

    total = torch.zeros_like(x1)
    for _ in range(raised):
        total = total + log_part(x0, x1)
        x0, x1 = x0 + 1, x1 + 1
    s0, s1 = x0 + b, x1 + b
    u, v = delta / s0, delta * b / (x0 * s1)
    near = u <= 1
    u_near, v_near = torch.where(near, u, 0.0), torch.where(near, v, 0.0)
    u_far, v_far = torch.where(near, 1.0, u), torch.where(near, 1.0, v)
    by_series = b * u * (delta / s1) - b * x_minus_log1p(u_near) + x0 * x_minus_log1p(v_near)
    direct = b * u_far.log1p() - x0 * v_far.log1p()
    total = total + torch.where(near, by_series, direct) + 0.5 * log_part(x0, x1)
    return total + (remainder(x0, x1) - remainder(s0, s1))

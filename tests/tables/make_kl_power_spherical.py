"""Writes kl_power_spherical.csv: KL(PS(mu_p, kappa_p) || PS(mu_q, kappa_q)) and its derivatives.

Run: python tests/tables/make_kl_power_spherical.py (a minute).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from common import as_float32, write
from mpmath import mp, mpf

# The derivatives in kappa are sums of two parts of either sign; *_scale is the sum of their sizes.
HEADER = (
    *("d", "kappa", "kappa_q", "sin2", "cos2", "kl", "kl_dkappa_p", "kl_dkappa_p_scale"),
    *("kl_dkappa_q", "kl_dkappa_q_scale", "kl_dsin2"),
)
POINTS = 240


def gauss_legendre(n: int) -> list[tuple[mpf, mpf]]:
    """Nodes and weights on (0, 1)."""
    rule = []
    for i in range(n):
        x = mp.cos(mp.pi * (i + mpf(3) / 4) / (n + mpf(1) / 2))
        for _ in range(7):
            slope = n * (x * mp.legendre(n, x) - mp.legendre(n - 1, x)) / (x * x - 1)
            x -= mp.legendre(n, x) / slope
        rule.append(((1 + x) / 2, 1 / ((1 - x * x) * slope**2)))
    return rule


def mean_gap(kappa: mpf, b: mpf, w: mpf, rule: list[tuple[mpf, mpf]]) -> tuple[mpf, mpf, mpf]:
    """M, dM/dkappa, dM/dw: the integral over Y on panels that grow by 1.7, 30 digits."""
    width, start = 1 / (b + kappa + 1) / 10, mpf(0)
    gap = slope = angle = mpf(0)
    while start * b < 110:
        for node, weight in rule:
            y = start + width * node
            u = -mp.log(w + (1 - w) * mp.exp(-y))
            weight *= width * mp.exp(-b * y)
            fraction, at_u, at_y = -mp.expm1(-y), mp.exp(-kappa * u), mp.exp(-kappa * y)
            gap += weight / fraction * (at_u - at_y)
            slope += weight / fraction * (y * at_y - u * at_u)
            angle += weight * kappa * at_u * mp.exp(u)
        start += width
        width = start * mpf("0.7")
    return gap, slope, angle


def rows() -> Iterator[tuple[int | float | mpf, ...]]:
    rng = np.random.default_rng(3)
    rule = gauss_legendre(24)
    for index in range(POINTS):
        d = int(rng.choice([2, 3, 4, 5, 8, 16, 33, 64, 512, 2048, 10**5, 10**6]))
        kappa = as_float32(10 ** rng.uniform(-3, 7 if index % 2 else 2))
        kappa_q = as_float32(kappa * 10 ** rng.normal() if index % 3 else 10 ** rng.uniform(-3, 7))
        draw = (10 ** rng.uniform(-8, 0), rng.random(), 1 - 10 ** rng.uniform(-6, 0), 0.0)[
            index % 4
        ]
        y = mpf(as_float32(draw))
        b, p, q = mpf(d - 1) / 2, mpf(kappa), mpf(kappa_q)

        def peak(k: mpf, b: mpf = b) -> mpf:
            return mp.loggamma(2 * b + k) - mp.loggamma(b + k)

        def peak_1(k: mpf, b: mpf = b) -> mpf:
            return mp.psi(0, 2 * b + k) - mp.psi(0, b + k)

        gap, slope, angle = mean_gap(p, b, y, rule) if y else (mpf(0),) * 3
        curvature = mp.psi(1, 2 * b + p) - mp.psi(1, b + p)
        kl = peak(p) - peak(q) - (p - q) * peak_1(p) + q * gap
        same_p, same_q = -(p - q) * curvature, peak_1(p) - peak_1(q)
        dkappa_p = (same_p + q * slope, abs(same_p) + abs(q * slope))
        dkappa_q = (same_q + gap, abs(same_q) + gap)
        yield d, kappa, kappa_q, y, 1 - y, kl, *dkappa_p, *dkappa_q, q * angle


if __name__ == "__main__":
    write("kl_power_spherical", HEADER, rows())

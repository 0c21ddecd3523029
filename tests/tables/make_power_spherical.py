"""Writes power_spherical.csv and power_spherical_implicit_gradient.csv.

Run: python tests/tables/make_power_spherical.py (a minute).
"""

from __future__ import annotations

from collections.abc import Iterator

import mpmath
from common import (
    DIMENSIONS,
    FUNCTIONS,
    IMPLICIT_GRADIENT,
    as_float32,
    kappa_grid,
    log_area,
    thinned,
    write,
)
from mpmath import mp, mpf
from scipy import stats

# (d, kappa) where some function of kappa has its largest error, or the entropy nearly vanishes.
HARDEST = [(8, 24.3179), (9, 22.6987), (12, 1.2), (14, 0.2164), (40, 52.48), (877972, 34405.1)]
LEVELS = (1e-6, 1e-2, 0.2, 0.5, 0.8, 0.99, 1 - 1e-6)
IMPLICIT_GRADIENT_KAPPAS = (0.0, 0.1, 1.0, 3.0, 6.0, 10.0, 100.0, 1e4, 1e7)
# The points of the full grid where float32 and float64, C++ and Python, have their largest error.
IMPLICIT_GRADIENT_HARDEST = [
    (8, 1.0, 0.5),
    (9, 0.1, 0.8),
    (11, 6.0, 1 - 1e-6),
    (17, 1.0, 0.2),
    (24, 0.1, 0.01),
]


def levels(d: int) -> tuple[float, ...]:
    """The quantile levels of sin2 in the table: seven, and three for large d."""
    return LEVELS if d < 2000 else LEVELS[1::2]


def log_prob_at_mode(kappa: mpf, b: mpf) -> mpf:
    return mp.loggamma(2 * b + kappa) - mp.loggamma(b + kappa) - b * mp.log(4 * mp.pi)


def kappa_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    for d, kappa in [*kappa_grid(seed=1), *((d, as_float32(kappa)) for d, kappa in HARDEST)]:
        b, k = mpf(d - 1) / 2, mpf(kappa)
        with mp.workdps(80):
            peak = log_prob_at_mode(k, b)
            slope = mp.psi(0, 2 * b + k) - mp.psi(0, b + k)
            curvature = mp.psi(1, 2 * b + k) - mp.psi(1, b + k)
            kl_uniform = peak - log_prob_at_mode(mpf(0), b) - k * slope
            entropy = log_area(d) - kl_uniform
        yield d, kappa, peak, slope, curvature, k / (2 * b + k), kl_uniform, entropy


def implicit_gradient(kappa: mpf, b: mpf, y: mpf, z: mpf) -> mpf:
    """(dt/dkappa)/(1 - t^2) from convergent series of the incomplete Beta function (DLMF 8.17.8),
    differentiated in a, with guard digits for the alternating one."""
    with mp.workdps(90):
        a = b + kappa
        s = a + b
        log_z = mp.log1p(-y) if y < z else mp.log(z)
        centered = log_z + mp.psi(0, s) - mp.psi(0, a)
        term, total, n, tiny = mpf(1), mpf(0), 0, mpf(10) ** -70
        if centered < 0 and z < 0.5:  # powers of z
            while term > tiny:
                total += term * (1 / (a + n) - centered)
                centered -= b / ((a + n) * (s + n))
                term *= z * (s + n) / (a + 1 + n)
                n += 1
            return total / a / 2
        ratio = mpf(2)
        while ratio >= 1 or term > tiny:  # powers of y
            total += term * centered
            centered += 1 / (s + n)
            ratio = y * (s + n) / (b + 1 + n)
            term *= ratio
            n += 1
        return total / b / 2


def implicit_gradient_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    grid = [
        (d, kappa, level)
        for d in DIMENSIONS
        for kappa in IMPLICIT_GRADIENT_KAPPAS
        for level in levels(d)
    ]
    for index, (d, kappa) in enumerate(kappa_grid(seed=2)[-160:], start=162):
        grid.append((d, kappa, levels(d)[index % len(levels(d))]))
    for d, exact_kappa, level in thinned(grid, IMPLICIT_GRADIENT_HARDEST):
        kappa, b = as_float32(exact_kappa), (d - 1) / 2
        y, z = stats.beta.ppf(level, b, b + kappa), stats.beta.ppf(1 - level, b + kappa, b)
        if not (y > 1e-30 and z > 1e-30):
            continue
        if y < z:
            y = mpf(as_float32(y))
            z = 1 - y
        else:
            z = mpf(as_float32(z))
            y = 1 - z
        yield d, kappa, y, z, implicit_gradient(mpf(kappa), mpf(b), y, z)


def main() -> None:
    write("power_spherical", ("d", "kappa", *FUNCTIONS), kappa_rows())
    write("power_spherical_implicit_gradient", IMPLICIT_GRADIENT, implicit_gradient_rows())


if __name__ == "__main__":
    assert mpmath.mp.dps == 50
    main()

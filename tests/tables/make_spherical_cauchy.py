"""Writes spherical_cauchy.csv and spherical_cauchy_implicit_gradient.csv, from the density alone.

Run: python tests/tables/make_spherical_cauchy.py (a few minutes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mpmath
import numpy as np
from common import DIMENSIONS, IMPLICIT_GRADIENT, as_float32, log_area, write
from mpmath import mp, mpf

RHOS = (0.0, 1e-6, 1e-3, 0.03, 0.3, 0.5, 0.8, 0.95, 0.999, 1 - 2**-14, 1 - 2**-20, 1 - 2**-24)
RANDOM_POINTS = 120
# (d, rho) where some function of rho has its largest error, or the entropy nearly vanishes.
HARDEST = [(2, 1.25305e-5), (3, 0.802733), (3, 0.982064), (8, 0.03387), (12, 0.001863)]
LEVELS = (-6.0, -1.0, 0.0, 0.5, 4.0)  # of u, about its mode


def log_density(d: int, rho: mpf, u: mpf) -> mpf:
    """log of the density of u = log(cos2/sin2), up to a constant: p(x) (sin2 cos2)^b."""
    sin2, cos2 = 1 / (1 + mp.exp(u)), 1 / (1 + mp.exp(-u))
    distance = (1 - rho) ** 2 * cos2 + (1 + rho) ** 2 * sin2  # 1 + rho^2 - 2 rho t
    return (d - 1) * (mp.log(sin2 * cos2) / 2 - mp.log(distance))


def means(d: int, rho: mpf, functions: list[Callable[[mpf], mpf]]) -> list[mpf]:
    """E[f(t)] by the trapezoidal rule in u about the mode; 30 digits."""
    b, mode = mpf(d - 1) / 2, 2 * mp.log((1 + rho) / (1 - rho))
    step = 2 * mp.pi / mp.sqrt(70 * (b + 8))
    reach = 72 / b + mp.sqrt(300 / b) if d > 3 else 80 / b + 80
    total, sums = mpf(0), [mpf(0)] * len(functions)
    top = log_density(d, rho, mode)
    for i in range(-int(reach / step), int(reach / step) + 1):
        u = mode + i * step
        weight = mp.exp(log_density(d, rho, u) - top)
        total += weight
        sums = [s + weight * f(mp.tanh(u / 2)) for s, f in zip(sums, functions, strict=True)]
    return [s / total for s in sums]


def grid() -> list[tuple[int, float]]:
    rng = np.random.default_rng(3)
    points = [(d, as_float32(rho)) for d in DIMENSIONS for rho in RHOS]
    for _ in range(RANDOM_POINTS):
        d = int(np.exp(rng.uniform(np.log(2), np.log(60 if rng.random() < 0.7 else 1e6))))
        points.append((d, as_float32(1 - 10 ** -rng.uniform(0.02, 6))))
    return [*points, *((d, as_float32(rho)) for d, rho in HARDEST)]


def kappa_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    for d, value in grid():
        rho, m = mpf(value), d - 1
        at_mode = m * mp.log((1 + rho) / (1 - rho))  # relative to the uniform

        def log_ratio(t: mpf, rho: mpf = rho, m: int = m) -> mpf:
            return m * mp.log((1 - rho**2) / (1 + rho**2 - 2 * rho * t))

        def score(t: mpf, rho: mpf = rho, m: int = m) -> mpf:
            return -2 * m * (rho / (1 - rho**2) + (rho - t) / (1 + rho**2 - 2 * rho * t))

        functions = [
            lambda t: t,
            log_ratio,
            lambda t: t * score(t),
            lambda t: log_ratio(t) * score(t),
        ]
        mean, kl, mean_slope, kl_slope = means(d, rho, functions)
        mean = mean if value else mpf(0)  # by symmetry
        slope, bend = 2 * m / (1 - rho**2), 4 * m * rho / (1 - rho**2) ** 2
        at = at_mode - log_area(d), slope, bend, at_mode
        yield d, value, *at, mean, mean_slope, kl, kl_slope, log_area(d) - kl


def implicit_gradient(d: int, rho: mpf, u: mpf) -> mpf:
    """(dt/drho)/(1 - t^2) = (du/drho)/2 = -(dF/drho)/(2 g), by quadrature of the upper tail."""
    top = log_density(d, rho, u)

    def slope(v: mpf) -> mpf:
        return mp.exp(log_density(d, rho, v) - top) * mp.diff(lambda r: log_density(d, r, v), rho)

    def density(v: mpf) -> mpf:
        return mp.exp(log_density(d, rho, v) - top)

    mode = 2 * mp.log((1 + rho) / (1 - rho))
    b = mpf(d - 1) / 2
    far = 60 / b + 5
    points = sorted({u, max(u, mode), max(u, mode) + far / 8, max(u, mode) + far})
    lower = [min(u, mode) - far, min(u, mode) - far / 8, min(u, mode)]
    above, tail = mp.quad(slope, points), mp.quad(density, points)
    below, rest = (
        mp.quad(slope, [*lower, *([u] if u > mode else [])]),
        mp.quad(density, [*lower, *([u] if u > mode else [])]),
    )
    # S = P(U > u) = tail/(tail + rest); the unnormalised density depends on rho as well.
    return (above * rest - below * tail) / (tail + rest) / 2


def implicit_gradient_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    for d in (2, 3, 8, 64):
        for rho in (as_float32(r) for r in (1e-3, 0.3, 0.8, 0.999)):
            for level in LEVELS:
                u = 2 * np.log((1 + rho) / (1 - rho)) + level / np.sqrt(d)
                sin2 = mpf(as_float32(1 / (1 + np.exp(u))))
                exact_u = mp.log((1 - sin2) / sin2)
                yield d, rho, sin2, 1 - sin2, implicit_gradient(d, mpf(rho), exact_u)


def main() -> None:
    header = (
        "log_prob_at_mode",
        "log_prob_at_mode_dkappa",
        "log_prob_at_mode_dkappa2",
        "log_prob_at_mode_over_uniform",
        "mean_resultant_length",
        "mean_resultant_length_dkappa",
        "kl_uniform",
        "kl_uniform_dkappa",
        "entropy",
    )
    write("spherical_cauchy", ("d", "kappa", *header), kappa_rows())
    write("spherical_cauchy_implicit_gradient", IMPLICIT_GRADIENT, implicit_gradient_rows())


if __name__ == "__main__":
    assert mpmath.mp.dps == 50
    main()

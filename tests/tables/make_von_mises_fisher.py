"""Writes von_mises_fisher.csv and, of that stem, _implicit_gradient.csv, _kl.csv and _mixed_kl.csv.

Run: python tests/tables/make_von_mises_fisher.py (two minutes).
"""

from __future__ import annotations

from collections.abc import Iterator

import mpmath
import numpy as np
from bessel import log_0f1
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

# (d, kappa) where some function of kappa has its largest error, or the entropy nearly vanishes.
HARDEST = [(2, 23.7438), (2, 24.1702), (2, 25.3492), (2, 28.1), (3, 24.5123), (4, 22.0), (5, 20.7)]
HARDEST += [(9, 13.5551), (13, 1.37241), (16, 7.30804), (18, 3.86864), (19, 13.9163)]
HARDEST += [(22, 10.4576), (27112, 995.482)]
LEVELS = (1e-5, 1e-2, 0.2, 0.5, 0.8, 0.99, 1 - 1e-5)
IMPLICIT_GRADIENT_KAPPAS = (0.0, 0.1, 1.0, 3.0, 6.0, 13.0, 50.0, 1e4, 1e7)
# The points of the full grid where float32 and float64, C++ and Python, have their largest error.
IMPLICIT_GRADIENT_HARDEST = [
    (2, 13.0, 0.2),
    (5, 50.0, 1e-5),
    (7, 50.0, 1e-5),
    (14, 1.0, 0.2),
    (32, 0.1, 0.5),
]
IMPLICIT_GRADIENT_HARDEST += [(64, 0.1, 0.5)]
RANDOM_KL, RANDOM_MIXED = 400, 200


def moments(d: int, kappa: float) -> tuple[mpf, mpf, mpf, mpf]:
    """log p(mu), A, 1 - A, A'."""
    v, k = mpf(d) / 2 - 1, mpf(kappa)
    if k == 0:
        return -log_area(d), mpf(0), mpf(1), mpf(1) / d
    base = log_0f1(v, k)
    a = k / (2 * (v + 1)) * mp.exp(log_0f1(v + 1, k) - base)
    return k - log_area(d) - base, a, 1 - a, 1 - a * a - (d - 1) * a / k


def kappa_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    for d, kappa in [*kappa_grid(seed=3), *((d, as_float32(kappa)) for d, kappa in HARDEST)]:
        with mp.workdps(80):
            peak, a, rest, slope = moments(d, kappa)
            kl_uniform = peak - moments(d, 0.0)[0] - kappa * rest
            entropy = log_area(d) - kl_uniform
        yield d, kappa, peak, rest, -slope, a, kl_uniform, entropy


def quantile(d: int, kappa: float, level: float) -> tuple[float, float]:
    """y, z near the level-quantile of t, from a sum over atanh t in double precision."""
    m = d - 1
    r = np.hypot(m, 2 * kappa)
    rest = (m + m * m / (r + 2 * kappa)) / (m + r)
    centre = 0.5 * np.log((1 + 2 * kappa / (m + r)) / rest)
    reach = min(25, 28 / np.sqrt(m) * (4 if d < 6 else 1))
    tau = centre + np.linspace(-reach, reach, 40001)
    e = np.exp(-2 * np.abs(tau))
    y = np.where(tau > 0, e, 1) / (1 + e)
    log_density = -m * (np.abs(tau) + np.log1p(e)) - 2 * kappa * y
    total = np.cumsum(np.exp(log_density - log_density.max()))
    t = np.interp(level, total / total[-1], tau)
    return 1 / (1 + np.exp(2 * t)), 1 / (1 + np.exp(-2 * t))


def implicit_gradient(d: int, kappa: float, y: mpf, z: mpf) -> mpf:
    """(1/((1 - t^2) f(t))) integral |t' - A| f(t') dt' from t to the nearer pole."""
    b, k = mpf(d - 1) / 2, mpf(kappa)
    with mp.workdps(80):
        mean_y = moments(d, kappa)[2] / 2
    above = y < mean_y
    near, far, off, sign = (y, z, mean_y - y, 1) if above else (z, y, y - mean_y, -1)

    def integrand(g: mpf) -> mpf:
        step = near * (1 - g * g)
        if g <= 0:
            return mpf(0)
        exponent = (b - 1) * mp.log1p(step / far) + 2 * sign * k * step + (d - 2) * mp.log(g)
        return 2 * mp.exp(exponent) * (off + step)

    slope = (d - 2) - 2 * near * ((b - 1) / far + 2 * sign * k)
    width = 1 / (abs(slope) + mp.sqrt(d - 1 + 4 * k * near) + 1)
    points = [1 - n * width for n in (600, 120, 60, 30, 15, 8, 4, 2, 1, 0.5)]
    points = [max(mpf(0), points[0]), *(p for p in points[1:] if p > 0), mpf(1)]
    return mp.quad(integrand, points) * near / (y * z)


def implicit_gradient_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    grid = [(d, kappa, q) for d in DIMENSIONS for kappa in IMPLICIT_GRADIENT_KAPPAS for q in LEVELS]
    rng = np.random.default_rng(4)
    for d, kappa in kappa_grid(seed=4)[-200:]:
        grid.append((d, kappa, 1 / (1 + np.exp(rng.uniform(-11.5, 11.5)))))
    for d, exact_kappa, level in thinned(grid, IMPLICIT_GRADIENT_HARDEST):
        kappa = as_float32(exact_kappa)
        y, z = map(as_float32, quantile(d, kappa, level))
        if min(y, z) < 1e-30:
            continue
        exact_y, exact_z = (mpf(y), 1 - mpf(y)) if y < z else (1 - mpf(z), mpf(z))
        with mp.workdps(30):
            value = implicit_gradient(d, kappa, exact_y, exact_z)
        yield d, kappa, exact_y, exact_z, value


def kl_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    """KL between two von Mises-Fisher, w = (1 - mu_p . mu_q)/2."""
    rng = np.random.default_rng(5)
    for index in range(RANDOM_KL):
        d = int(np.exp(rng.uniform(np.log(2), np.log(60 if index % 2 else 1e6))))
        p, q = 10 ** rng.uniform(-3, 7, 2)
        if index % 3 == 1:  # close to each other
            q = p * np.exp(rng.normal() * 10.0 ** -(index % 4))
        if index % 20 == 2:
            p, q = (0, q) if index % 40 == 2 else (p, 0)
        p, q = as_float32(p), as_float32(q)
        w = as_float32(10 ** rng.uniform(-8, 0)) if index % 4 == 0 else 0.0
        with mp.workdps(80):
            (peak_p, a, rest, _), peak_q = moments(d, p), moments(d, q)[0]
            value = peak_p - peak_q - (mpf(p) - q) * rest + 2 * mpf(q) * a * w
        yield d, p, q, w, value


def minus_mean_log_z(d: int, kappa: float) -> mpf:
    """-E log z under von Mises-Fisher, by the trapezoid rule in x0 + scale sinh(tau) = log(z/y)."""
    b, k, half = mpf(d - 1) / 2, mpf(kappa), 150
    root = mp.sqrt(b * b + k * k)
    y0 = b * (1 + b / (root + k)) / (b + root) / 2
    x0, scale = mp.log((1 - y0) / y0), 1 / mp.sqrt(2 * y0 * (1 - y0) * (b + k * k / (b + root)))
    step = mp.asinh(max(75 / b / scale, 18)) / half
    total, moment = mpf(0), mpf(0)
    for i in range(-half, half + 1):
        x = x0 + scale * mp.sinh(step * i)
        y, log_y, log_z = 1 / (1 + mp.exp(x)), -mp.log1p(mp.exp(x)), -mp.log1p(mp.exp(-x))
        exponent = b * (log_y + log_z) - 2 * k * y
        peak = b * (mp.log(y0) + mp.log1p(-y0)) - 2 * k * y0
        weight = mp.exp(exponent - peak) * mp.cosh(step * i)
        total += weight
        moment -= weight * log_z
    return moment / total


def power_spherical_peak(d: int, kappa: float) -> tuple[mpf, mpf]:
    """log p(mu) and its derivative."""
    b, k = mpf(d - 1) / 2, mpf(kappa)
    peak = mp.loggamma(2 * b + k) - mp.loggamma(b + k) - b * mp.log(4 * mp.pi)
    return peak, mp.psi(0, 2 * b + k) - mp.psi(0, b + k)


def mixed_kl_rows() -> Iterator[tuple[int | float | mpf, ...]]:
    """KL(PS || vMF) and KL(vMF || PS) of equal means."""
    rng = np.random.default_rng(6)
    for index in range(RANDOM_MIXED):
        d = int(np.exp(rng.uniform(np.log(2), np.log(60 if index % 2 else 1e6))))
        p, q = 10 ** rng.uniform(-3, 7, 2)
        q = (q, p * np.exp(0.7 * rng.normal()), p)[index % 3]
        p, q = as_float32(p), as_float32(q)
        with mp.workdps(80):
            (spherical_p, slope_p), spherical_q = (
                power_spherical_peak(d, p),
                power_spherical_peak(d, q)[0],
            )
            (fisher_p, _, rest_p, _), fisher_q = moments(d, p), moments(d, q)[0]
            minus_log_z = minus_mean_log_z(d, p)
            forth = spherical_p - p * slope_p - fisher_q + q * mpf(d - 1) / (d - 1 + mpf(p))
            back = fisher_p - p * rest_p - spherical_q + q * minus_log_z
        yield d, p, q, forth, back


def main() -> None:
    write("von_mises_fisher", ("d", "kappa", *FUNCTIONS), kappa_rows())
    write("von_mises_fisher_implicit_gradient", IMPLICIT_GRADIENT, implicit_gradient_rows())
    write("von_mises_fisher_kl", ("d", "kappa_p", "kappa_q", "w", "kl"), kl_rows())
    mixed = ("from_power_spherical", "from_von_mises_fisher")
    write("von_mises_fisher_mixed_kl", ("d", "kappa_p", "kappa_q", *mixed), mixed_kl_rows())


if __name__ == "__main__":
    assert mpmath.mp.dps == 50
    main()

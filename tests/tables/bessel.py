"""log 0F1 in mpmath for any order and argument, which mpmath's own hyp0f1 is too slow for."""

from __future__ import annotations

from functools import reduce

from mpmath import mp, mpf

# R = sqrt(v^2 + kappa^2) from which Debye's expansion to this order has an error below 1e-50
DEBYE_RADIUS, DEBYE_ORDER = 250, 40


def debye_polynomials() -> list[list[mpf]]:
    """U_k(p) as coefficients of p^0, p^1, ... (DLMF 10.41.9)."""
    u = [[mpf(1)]]
    for _ in range(DEBYE_ORDER):
        following = [mpf(0)] * (len(u[-1]) + 3)
        for i, c in enumerate(u[-1]):
            following[i + 1] += c * (mpf(i) / 2 + mpf(1) / (8 * (i + 1)))
            following[i + 3] -= c * (mpf(i) / 2 + mpf(5) / (8 * (i + 3)))
        u.append(following)
    return u


with mp.workdps(120):
    DEBYE = debye_polynomials()


def log_0f1(v: mpf, kappa: mpf) -> mpf:
    """log 0F1(; v + 1; kappa^2/4) = log [Gamma(v + 1) (2/kappa)^v I_v(kappa)]."""
    if kappa == 0:
        return mpf(0)
    r = mp.sqrt(v * v + kappa * kappa)
    if r < DEBYE_RADIUS:
        return mp.log(mp.hyp0f1(v + 1, kappa * kappa / 4))
    p, total = v / r, mpf(0)
    for k in range(DEBYE_ORDER, -1, -1):
        # U_k(p) / v^k = (U_k(p) / p^k) / R^k
        coefficients = DEBYE[k][: k - 1 if k else None : -1]
        total = total / r + reduce(lambda value, c: value * p + c, coefficients, mpf(0))
    log_bessel = r + v * mp.log(kappa / (v + r)) - mp.log(2 * mp.pi * r) / 2 + mp.log(total)
    return mp.loggamma(v + 1) - v * mp.log(kappa / 2) + log_bessel

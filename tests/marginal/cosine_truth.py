"""The law of t by scipy, by quadrature in long double, and by mpmath."""

from __future__ import annotations

import functools

import mpmath
import numpy as np
import scipy.stats
from cases import POWER_SPHERICAL, VON_MISES_FISHER, cached_log_normalizer
from mpmath import mpf
from scipy.special import betainc, betaincinv

OWN_TRUTH = (POWER_SPHERICAL, VON_MISES_FISHER)
PANELS = 16  # of the quadrature that is the truth for von Mises-Fisher


def tails(family, d, kappa, t):
    """P(T <= t) and P(T > t), each from the fraction that it shrinks with.

    A family without a formula of its own here is one whose law of -t is that of t at -kappa. Its
    lower tail is accurate where 1 + t has no rounding error.
    """
    b = (d - 1) / 2
    if family not in OWN_TRUTH:
        return family.cdf((1 + t) / 2, d, -kappa), family.cdf((1 - t) / 2, d, kappa)
    if family is POWER_SPHERICAL:
        return betainc(b + kappa, b, (1 + t) / 2), betainc(b, b + kappa, (1 - t) / 2)
    t = np.asarray(t, np.longdouble)
    with np.errstate(divide="ignore"):
        u = np.log1p(t) - np.log1p(-t)
    mode = np.broadcast_to(logit_mode(b, kappa), u.shape)
    sides = [tail(b, kappa, mode, sign) for sign in (-1, 1)]
    limit = 100 / b + 2 * np.log1p(2 * np.asarray(kappa) / b) + 2  # beyond it there is no mass
    inner = np.clip(u, mode - 20 * limit, mode + 20 * limit)
    sign = np.where(u < mode, -1, 1)
    drop = log_ratio(b, kappa, mode, inner - mode)
    part = tail(b, kappa, inner, sign) * np.exp(drop) / (sides[0] + sides[1])
    part = np.where(np.isinf(u), 0, part)
    return np.where(sign < 0, part, 1 - part), np.where(sign < 0, 1 - part, part)


def logit_mode(b, kappa):
    kappa = np.asarray(kappa, np.longdouble)
    return np.log((kappa + np.hypot(b, kappa)) / b)


def log_ratio(b, kappa, u, h):
    """log g(u + h)/g(u) of von Mises-Fisher, log g = b log(y z) - 2 kappa y, u = log(z/y)."""
    rise, y = np.logaddexp(0, u) - np.logaddexp(0, u + h), 1 / (1 + np.exp(u))
    return b * (h + 2 * rise) - 2 * kappa * (1 / (1 + np.exp(u + h)) - y)


def tail(b, kappa, u, sign):
    """Integral of g/g(u) from u to sign times infinity, in long double."""
    low, high = np.zeros_like(u), 100 / b + 2 * np.log1p(2 * np.asarray(kappa) / b) + 2 + 0 * u
    for _ in range(30):
        middle = (low + high) / 2
        beyond = log_ratio(b, kappa, u, sign * middle) < -60
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    total = np.zeros_like(u)
    for panel in range(PANELS):
        for node, weight in zip(*gauss_legendre(20), strict=True):
            root = (panel + (1 + node) / 2) / PANELS  # h = high root^2: most nodes near u
            total += weight * root * np.exp(log_ratio(b, kappa, u, sign * high * root**2))
    return total * high / PANELS


@functools.cache
def gauss_legendre(n):
    """Nodes and weights on (-1, 1), numpy's with a Newton step in long double."""
    nodes = np.polynomial.legendre.leggauss(n)[0].astype(np.longdouble)
    for _ in range(2):
        before, at = np.ones_like(nodes), nodes
        for k in range(2, n + 1):
            before, at = at, ((2 * k - 1) * nodes * at - (k - 1) * before) / k
        slope = n * (nodes * at - before) / (nodes**2 - 1)
        nodes = nodes - at / slope
    return nodes, 2 / ((1 - nodes**2) * slope**2)


def points(family, d, kappa, p):
    """t where the lower and where the upper tail is p; for von Mises-Fisher about there, where a
    normal law with the curvature of log g at its mode has these tails."""
    b = (d - 1) / 2
    if family not in OWN_TRUTH:
        low, high = np.full((2, len(p)), -1000.0), np.full((2, len(p)), 1000.0)
        for _ in range(60):  # bisections of u = log((1 + t)/(1 - t))
            middle = (low + high) / 2
            lower, upper = tails(family, d, kappa, np.tanh(middle / 2))
            left = np.stack([lower[0] < p, upper[1] > p])
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        t = np.tanh((low + high) / 4).ravel()
        return np.where(t > 0, (1 + t) - 1, t)
    if family is POWER_SPHERICAL:
        lower = 2 * betaincinv(b + kappa, b, p) - 1
        return np.concatenate([lower, 1 - 2 * betaincinv(b, b + kappa, p)])
    y = 1 / (1 + np.exp(logit_mode(b, kappa)))
    width = 1 / np.sqrt(2 * y * (1 - y) * (b + kappa * (1 - 2 * y)))
    normal = scipy.stats.norm.isf(p)
    return np.tanh((logit_mode(b, kappa) + width * np.append(-normal, normal)) / 2).astype(float)


def exact_log_density(family, d, kappa, y):
    """log f(t) + log(1 - t^2) - log 2, the density of u = log(z/y), in mpmath."""
    b = mpf(d - 1) / 2
    log_area = mpmath.log(2) + b * mpmath.log(mpmath.pi) - mpmath.loggamma(b)  # of S^{d-2}
    log_p = cached_log_normalizer(family, d, kappa) + family.log_density(d, mpf(kappa), y)
    return log_p + log_area + b * mpmath.log(4 * y * (1 - y)) - mpmath.log(2)


def exact_tail(family, d, kappa, t, upper):
    """By mpmath, of the ratio of densities in u = log(z/y), from t on."""
    u0 = mpmath.log((1 + mpf(t)) / (1 - mpf(t)))
    sign = 1 if upper else -1

    def log_density(u):
        return exact_log_density(family, d, kappa, 1 / (1 + mpmath.exp(u)))

    peak = log_density(u0)
    width = mpf(1)
    while peak - log_density(u0 + sign * width) < 80:
        width *= 2
    while peak - log_density(u0 + sign * width) > 100:
        width *= mpf("0.9")
    points = [u0 + sign * width * i / 12 for i in range(13)]
    ratio = mpmath.quad(lambda u: mpmath.exp(log_density(u) - peak), points)
    return sign * ratio * mpmath.exp(peak)

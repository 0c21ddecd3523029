"""Scalar functions and divergences at concentrations up to the end of the domain, 2^50.

The tables end at 1e7. Here the truth is mpmath's, or the first terms of an expansion in 1/kappa, in
which the laws of kappa sin2 (Power Spherical) and 2 kappa sin2 (von Mises-Fisher) are Gamma(b).
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scalar_calls import DTYPES, call
from scipy import stats
from tables.bessel import log_0f1

from powerspherical_ext.families import FAMILIES, family_named
from powerspherical_ext.reference import power_spherical, von_mises_fisher

DIMENSIONS = (2, 3, 4, 64, 2048)
LAST = float(np.nextafter(np.float32(2**50), np.float32(0)))
KAPPAS = tuple(float(np.float32(kappa)) for kappa in (1e8, 1e10, 1e12, 1e14, LAST))
GRID = [(d, kappa) for d in DIMENSIONS for kappa in KAPPAS]
REFERENCES = {"PowerSpherical": power_spherical, "VonMisesFisher": von_mises_fisher}

FUNCTIONS = (
    "log_prob_at_mode",
    "log_prob_at_mode_dkappa",
    "log_prob_at_mode_dkappa2",
    "mean_resultant_length",
    "mean_resultant_length_dkappa",
    "kl_uniform",
    "kl_uniform_dkappa",
    "log_prob_at_mode_over_uniform",
)


def power_spherical_truth(d: int, kappa: float) -> tuple[mpf, ...]:
    b, k = mpf(d - 1) / 2, mpf(kappa)
    peak, flat = (
        mp.loggamma(2 * b + x) - mp.loggamma(b + x) - b * mp.log(4 * mp.pi) for x in (k, mpf(0))
    )
    slope, bend = (mp.psi(n, 2 * b + k) - mp.psi(n, b + k) for n in (0, 1))
    mean, mean_slope = k / (2 * b + k), 2 * b / (2 * b + k) ** 2
    return peak, slope, bend, mean, mean_slope, peak - flat - k * slope, -k * bend, peak - flat


def von_mises_fisher_truth(d: int, kappa: float) -> tuple[mpf, ...]:
    v, k = mpf(d) / 2 - 1, mpf(kappa)
    log_moment, log_area = log_0f1(v, k), mp.log(2 * mp.pi ** (v + 1) / mp.gamma(v + 1))
    mean = k / d * mp.exp(log_0f1(v + 1, k) - log_moment)
    over_uniform, variance = k - log_moment, 1 - mean**2 - (d - 1) * mean / k
    peak, divergence = over_uniform - log_area, over_uniform - k * (1 - mean)
    return peak, 1 - mean, -variance, mean, variance, divergence, k * variance, over_uniform


TRUTHS = {"PowerSpherical": power_spherical_truth, "VonMisesFisher": von_mises_fisher_truth}


@pytest.fixture(scope="module", params=TRUTHS)
def truth(request: pytest.FixtureRequest) -> tuple[str, list[tuple[mpf, ...]]]:
    """The name of a family, and its functions at the points of the grid."""
    with mp.workdps(120):
        return request.param, [TRUTHS[request.param](d, kappa) for d, kappa in GRID]


def worst(results: np.ndarray, true: list[mpf], mixed: bool) -> float:
    errors = [abs(mpf(float(r)) - t) for r, t in zip(results, true, strict=True)]
    sizes = [max(abs(t), 1) if mixed else abs(t) for t in true]
    return max(float(e / s) for e, s in zip(errors, sizes, strict=True))


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-7), ("float64", 1e-15)])
def test_functions_of_kappa(
    truth: tuple[str, list[tuple[mpf, ...]]], dtype: str, bound: float, compiled: ctypes.CDLL
) -> None:
    """Compiled, and the reference."""
    family, values = truth
    d, kappa = np.array([d for d, _ in GRID]), np.array([k for _, k in GRID], dtype)
    for i, function in enumerate(FUNCTIONS):
        true, mixed = [v[i] for v in values], function == "log_prob_at_mode"
        by_cpp = call(compiled, f"{family}_{function}", d, [kappa], dtype)
        assert worst(by_cpp, true, mixed) <= bound, function
        reference = getattr(REFERENCES[family], function)
        points = zip(d.tolist(), torch.from_numpy(kappa), strict=True)
        by_reference = [reference(k, n).item() for n, k in points]
        assert worst(np.array(by_reference), true, mixed) <= 2 * bound, function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", TRUTHS)
def test_implicit_gradient(family: str, dtype: str, compiled: ctypes.CDLL) -> None:
    """1/(kappa (1 + t)), up to terms of order (b + kappa sin2)/kappa."""
    scale = 1 if family == "PowerSpherical" else 2
    for d, kappa in GRID:
        level = np.array([1e-5, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-5])
        sin2 = (stats.gamma.ppf(level, (d - 1) / 2) / (scale * kappa)).astype(dtype)
        inputs = [np.full(len(sin2), kappa, dtype), sin2, 1 - sin2]
        true = 1 / (2 * kappa * (1 - sin2.astype(np.float64)))
        bound = {"float32": 3e-7, "float64": 1e-15}[dtype] + 4 * (d + kappa * sin2.max()) / kappa
        for suffix in ("", "_rows"):
            symbol, rows = f"{family}_implicit_gradient{suffix}", np.full(len(sin2), d)
            result = call(compiled, symbol, rows, inputs, dtype)
            assert np.abs(result / true - 1).max() <= bound
        tensors = [torch.from_numpy(x) for x in inputs]
        result = REFERENCES[family].implicit_gradient(tensors[0], d, *tensors[1:]).numpy()
        assert np.abs(result / true - 1).max() <= bound


# Divergences: KL = own - cross, with the cross entropies of log q under p.


def mean_log_cos2(family: str, d: int, kappa: float, w: float) -> tuple[mpf, mpf, mpf]:
    """E log cos2(mu_q) under p about mu_p, w = sin2 of the angle between the two, and its
    derivatives in kappa and w.

    To second order in 1/kappa it is f + Laplacian(f)/kappa (von Mises-Fisher: 2 kappa) at mu_p, for
    f = log cos2(mu_q), of which the Laplacian is -[1/2 + (d/2 - 1)(1 - 2w)]/(1 - w). At the
    antipode it is E log sin2(mu_p) = psi(b) - log(kappa), to first order.
    """
    scale, k, w, m = 1 if family == "PowerSpherical" else 2, mpf(kappa), mpf(w), d - 1
    if w == 1:
        b = mpf(m) / 2
        return mp.psi(0, b) - mp.log(scale * k) - b / (scale * k), -1 / k, mpf("nan")
    bend = -(mpf(1) / 2 + mpf(m - 1) / 2 * (1 - 2 * w)) / (1 - w) / scale
    bend_dw = -(mpf(1) / 2 - mpf(m - 1) / 2) / (1 - w) ** 2 / scale
    return mp.log(1 - w) + bend / k, -bend / k**2, -1 / (1 - w) + bend_dw / k


def mean_t(family: str, d: int, kappa: float) -> tuple[mpf, mpf]:
    """1 - E[t] and its derivative."""
    _, rest, _, _, slope, *_ = TRUTHS[family](d, kappa)
    return (rest if family == "VonMisesFisher" else (d - 1) / (d - 1 + mpf(kappa))), -slope


def divergence_truth(p: str, q: str, d: int, kp: float, kq: float, w: float) -> list[mpf]:
    """KL and its derivatives in kappa_p, kappa_q and w; then the sizes of their parts."""
    peak, slope, bend, *_ = TRUTHS[p](d, kp)
    peak_q, slope_q, *_ = TRUTHS[q](d, kq)
    own, own_dkappa = peak - mpf(kp) * slope, -mpf(kp) * bend
    if q == "PowerSpherical":
        phi, phi_dkappa, phi_dw = mean_log_cos2(p, d, kp, w)
    else:  # -2 sin2(mu_q) on average: t is E[t] (1 - 2w)
        rest, rest_dkappa = mean_t(p, d, kp)
        away = 1 - 2 * mpf(w)
        phi, phi_dkappa = -(rest + 2 * mpf(w) * (1 - rest)), -rest_dkappa * away
        phi_dw = -2 * (1 - rest)
    k = mpf(kq)
    values = [own - peak_q - k * phi, own_dkappa - k * phi_dkappa, -slope_q - phi, -k * phi_dw]
    sizes = [0, abs(own_dkappa) + abs(k * phi_dkappa), abs(slope_q) + abs(phi), 0]
    return [*values, *(max(abs(v), s) for v, s in zip(values, sizes, strict=True))]


PAIRS = [(p, q) for p in TRUTHS for q in TRUTHS]
RATIO = np.array([1e-6, 0.3, 0.7, 0.9, 1e-14])  # of the two concentrations
ANGLE = np.array([0.5, 1e-3, 0.5, 1.0, 0.25])
DERIVATIVES = ("kl", "kl_dkappa_p", "kl_dkappa_q", "kl_dsin2")


@pytest.mark.slow
@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_divergences(p: str, q: str, compiled: ctypes.CDLL) -> None:
    """Compiled to 3e-9, and the reference to 3e-7; up to terms of order d/kappa_p in the angle's
    part, and of order (d/kappa_p)^2 in most of it.

    Autograd's derivative in kappa_p of the reference of two Power Spherical cancels, and is left
    out.
    """
    struct = f"Kl{p}" if p == q else f"Kl{p}{q}"
    names = {"PowerSpherical": "power_spherical", "VonMisesFisher": "von_mises_fisher"}
    reference = family_named(names[p]).kl[names[q]]
    for d, kp in ((d, kp) for d, kp in GRID if d != 4 and kp in KAPPAS[::2]):
        kappa_p, sin2 = np.full(5, kp), ANGLE.astype(np.float32).astype(np.float64)
        kappa_q = (kp * RATIO).astype(np.float32).astype(np.float64)
        points = zip(kappa_q.tolist(), sin2.tolist(), strict=True)
        with mp.workdps(100):
            values = [divergence_truth(p, q, d, kp, kq, w) for kq, w in points]
        truth = np.array(values, np.float64).T

        inputs = [kappa_p, kappa_q, sin2, 1 - sin2]
        leaves = [torch.from_numpy(x).clone().requires_grad_() for x in inputs[:3]]
        value = reference(leaves[0], leaves[1], d, leaves[2], 1 - leaves[2])
        grads = torch.autograd.grad(value.sum(), leaves)
        by_reference = [value.detach().numpy(), *(grad.numpy() for grad in grads)]
        for i, name in enumerate(DERIVATIVES):
            true, size, known = truth[i], truth[4 + i], ~np.isnan(truth[i])
            by_cpp = call(compiled, f"{struct}_{name}", np.full(5, d), inputs, "float64")
            first_order = (sin2 == 1) | (i in (1, 3))
            expansion = 500 * np.where(first_order, d / kp, (d / kp) ** 2)
            results = [(by_cpp, 3e-9), (by_reference[i], 3e-7)]
            if p == q == "PowerSpherical" and i == 1:
                results.pop()
            for result, rounding in results:
                error = np.abs(result - true) / size
                assert (error <= rounding + expansion)[known].all(), (d, kp, name, error)


def test_bounds() -> None:
    """What is true at the last number of float32 serves up to the bound."""
    assert [family.upper_bound for family in FAMILIES] == [2.0**50, 2.0**50, 1.0]
    assert LAST < 2.0**50 <= 1.001 * LAST

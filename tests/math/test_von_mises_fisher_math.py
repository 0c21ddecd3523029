"""The divergences, the inverse of A and the ends of implicit_gradient of von Mises-Fisher
against mpmath.
"""

from __future__ import annotations

import ctypes

import mpmath
import numpy as np
import pytest
import torch
from scalar_calls import DTYPES, by_dimension, call, load

from powerspherical_ext.reference import (
    kl_power_spherical_von_mises_fisher,
    kl_von_mises_fisher,
    von_mises_fisher,
)

FAMILY = "VonMisesFisher"


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 4e-6), ("float64", 2e-14)])
def test_kl_von_mises_fisher(dtype: str, bound: float, compiled: ctypes.CDLL) -> None:
    table = load("von_mises_fisher_kl")
    inputs = [np.ascontiguousarray(table[x], dtype) for x in ("kappa_p", "kappa_q", "w")]
    inputs.append(1 - inputs[-1])
    by_cpp = call(compiled, "KlVonMisesFisher_kl", table["d"], inputs, dtype)
    by_reference = by_dimension(kl_von_mises_fisher.kl, table["d"], inputs)
    for result in (by_cpp, by_reference):
        assert np.abs(result / table["kl"] - 1).max() <= bound


MIXED = {
    "from_power_spherical": "KlPowerSphericalVonMisesFisher_kl",
    "from_von_mises_fisher": "KlVonMisesFisherPowerSpherical_kl",
}


@pytest.mark.parametrize("column", MIXED)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("float64", 5e-10)])
def test_mixed_kl_of_equal_means(
    column: str, dtype: str, bound: float, compiled: ctypes.CDLL
) -> None:
    table = load("von_mises_fisher_mixed_kl")
    inputs = [np.ascontiguousarray(table[x], dtype) for x in ("kappa_p", "kappa_q")]
    inputs += [np.zeros_like(inputs[0]), np.ones_like(inputs[0])]
    by_cpp = call(compiled, MIXED[column], table["d"], inputs, dtype)
    function = getattr(kl_power_spherical_von_mises_fisher, f"kl_{column}")
    rows = slice(None, None, 5)
    few = [x[rows] for x in inputs]
    by_reference = by_dimension(function, table["d"][rows], few)
    assert np.abs(by_cpp / table[column] - 1).max() <= bound
    assert np.abs(by_reference / table[column][rows] - 1).max() <= bound


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3])
def test_mixed_kl_of_different_means(d: int, compiled: ctypes.CDLL) -> None:
    """E log z(mu_q) by the Fourier (d = 2) or Legendre (d = 3) series of log((1 + t)/2)."""
    kappa, w = np.array([0.01, 1, 20, 200]), np.array([0.01, 0.3, 0.9, 1])
    for k in kappa:
        true = []
        for share in w:
            angle, total = 2 * np.arcsin(np.sqrt(share)), mpmath.mpf(0)
            for n in range(1, 200):
                ratio = mpmath.besseli(n + d / 2 - 1, k) / mpmath.besseli(d / 2 - 1, k)
                if d == 2:
                    term = mpmath.mpf(2) / n * (1 - mpmath.cos(n * angle))
                else:
                    gap = 1 - mpmath.legendre(n, mpmath.cos(angle))
                    term = mpmath.mpf(2 * n + 1) / (n * (n + 1)) * gap
                total -= (-1) ** n * ratio * term
                if ratio < 1e-25:
                    break
            true.append(float(3 * total))
        inputs = [np.full(4, k), np.full(4, 3.0)]
        symbol, rows = MIXED["from_von_mises_fisher"], np.full(4, d)
        result = call(compiled, symbol, rows, [*inputs, w, 1 - w], "float64")
        result -= call(compiled, symbol, rows, [*inputs, np.zeros(4), np.ones(4)], "float64")
        np.testing.assert_allclose(result, true, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_implicit_gradient_is_finite_everywhere(dtype: str, compiled: ctypes.CDLL) -> None:
    y = np.array([0, 1e-30, 1e-7, 0.1, 0.3, 0.5, 0.7, 0.9, 1, 1, 1], dtype)
    z = np.array([1, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.1, 1e-7, 1e-30, 0], dtype)
    for kappa in (0, 1e-20, 1e-3, 1, 14, 25, 60, 1e3, 1e5, 1e7):
        for d in (2, 3, 4, 30, 64, 1000, 10**6):
            inputs = [np.full(len(y), kappa, dtype), y, z]
            by_cpp = call(
                compiled, f"{FAMILY}_implicit_gradient", np.full(len(y), d), inputs, dtype
            )
            by_reference = von_mises_fisher.implicit_gradient(
                torch.from_numpy(inputs[0]), d, torch.from_numpy(y), torch.from_numpy(z)
            ).numpy()
            for result in (by_cpp, by_reference):
                assert np.isfinite(result).all()
                assert (result > 0).all()

"""The test of a distribution by its cosine: size under the hypothesis, power, and bad input."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest

from powerspherical_ext import (
    HypersphericalUniform,
    PowerSpherical,
    SphericalCauchy,
    VonMisesFisher,
)
from powerspherical_ext.goodness_of_fit import goodness_of_fit_test
from powerspherical_ext.goodness_of_fit.cosine import _of_uniform

FAMILIES = pytest.mark.parametrize(
    ("family", "concentration"),
    [(PowerSpherical, 20.0), (VonMisesFisher, 20.0), (SphericalCauchy, 0.6)],
)


def drawn(family, concentration, *shape, d=4, seed=0):
    """Samples (..., n, d) and their distribution."""
    torch.manual_seed(seed)
    loc = torch.nn.functional.normalize(torch.randn(*shape[:-1], d), dim=-1)
    p = family(loc, torch.full(shape[:-1], concentration))
    return p, p.sample((shape[-1],)).movedim(0, -2)


def test_the_statistic_is_anderson_and_darlings_integral():
    """n times the integral of (F_n(u) - u)^2 / (u (1 - u)), F_n the share of samples below u."""
    u = torch.rand(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    edges = [0.0, *u.sort().values.tolist(), 1.0]
    parts = [
        quad(lambda v, share=k / 12: (share - v) ** 2 / (v * (1 - v)), *edges[k : k + 2])[0]
        for k in range(13)
    ]
    assert _of_uniform(u).item() == pytest.approx(12 * sum(parts), rel=1e-7)


@FAMILIES
def test_p_values_of_the_right_distribution_are_uniform(family, concentration):
    """One of 1,000 runs fails by chance."""
    p, x = drawn(family, concentration, 200, 15)
    result = goodness_of_fit_test(x, p, n_simulations=999)
    assert result.p_value.shape == (200,)
    assert kstest(result.p_value.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.slow
@FAMILIES
def test_p_values_of_the_right_family_are_uniform(family, concentration):
    """One of 1,000 runs fails by chance."""
    _, x = drawn(family, concentration, 200, 15)
    p = goodness_of_fit_test(x, family, n_simulations=99).p_value
    assert kstest(p.numpy(), "uniform").pvalue > 1e-3


def test_another_concentration_and_another_family_are_seen():
    p, x = drawn(SphericalCauchy, 0.6, 2, 300)
    far = SphericalCauchy(p.loc, p.concentration + 0.1)
    assert (goodness_of_fit_test(x, far).p_value < 0.01).all()
    assert (goodness_of_fit_test(x, PowerSpherical, n_simulations=39).p_value == 1 / 40).all()


def test_bad_input():
    _, x = drawn(PowerSpherical, 5.0, 10)
    with pytest.raises(TypeError, match=r"distribution must be .* or its class"):
        goodness_of_fit_test(x, HypersphericalUniform(4))
    with pytest.raises(ValueError, match="n_simulations must be at least 1, got 0"):
        goodness_of_fit_test(x, PowerSpherical, n_simulations=0)
    with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., n, d\), got \(4,\)"):
        goodness_of_fit_test(x[0], PowerSpherical)
    with pytest.raises(TypeError, match="x must be a tensor, got list"):
        goodness_of_fit_test([[1.0, 0.0]], PowerSpherical)
    p = PowerSpherical(torch.eye(4)[0], 5.0)
    for which in (PowerSpherical, p):
        with pytest.raises(ValueError, match="unit vectors"):
            goodness_of_fit_test(2 * x, which)
    with pytest.raises(ValueError, match=r"log_prob: value must have a shape"):
        goodness_of_fit_test(x[:, :3], p)
    unchecked = PowerSpherical(p.loc, 5.0, validate_args=False)
    assert goodness_of_fit_test(x * torch.nan, unchecked).p_value.isnan()

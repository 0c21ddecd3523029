"""Tests of uniformity: their size under the hypothesis, their power, and their statistics."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import beta, chi2

from powerspherical_ext import PowerSpherical
from powerspherical_ext.goodness_of_fit import bingham_test, rayleigh_test

TESTS = pytest.mark.parametrize("test", [rayleigh_test, bingham_test])


def uniform(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.slow
@TESTS
@pytest.mark.parametrize(("d", "n", "batch"), [(2, 10, 40_000), (3, 20, 40_000), (512, 10, 8_000)])
def test_uniform_samples_are_rejected_as_often_as_promised(test, d, n, batch):
    """The promise is 5 % +- 0.5; with it a case fails by chance in one of 10,000 runs."""
    p = test(uniform(batch, n, d)).p_value
    for level, promise in ((0.05, 0.005), (0.5, 0.02)):
        chance = 3.9 * math.sqrt(level * (1 - level) / batch)
        assert abs((p < level).double().mean().item() - level) < promise + chance


@TESTS
@pytest.mark.parametrize("d", [2, 3, 8, 100])
def test_the_three_moments_under_uniformity(test, d):
    """Means over 20,000 samples of 12 points; the bounds are four standard errors."""
    n, batch = 12, 20_000
    values = test(uniform(batch, n, d, seed=d)).statistic
    if test is rayleigh_test:
        mean, variance = d, 2 * d * (n - 1) / n
    else:
        mean, variance = (d - 1) * (d + 2) / 2, (d - 1) * (d + 2) * (n - 1) / n
    assert abs(values.mean().item() - mean) < 4 * math.sqrt(variance / batch)
    squares = (values - mean).square()
    assert abs(squares.mean().item() - variance) < 4 * squares.std().item() / math.sqrt(batch)
    cubes = (values - mean) ** 3
    third = {  # with the pairs of three points, and for Bingham those of one pair
        rayleigh_test: (2 * d / n) ** 3 * n * (n - 1) * (n - 2) / d**2,
        bingham_test: (d * (d + 2) / n) ** 3
        * (
            n * (n - 1) / 2 * float(beta(0.5, (d - 1) / 2).stats("s")) * squared_cosine_sd(d) ** 3
            + n * (n - 1) * (n - 2) * (2 / (d * (d + 2))) ** 2 * (d - 1) / d
        ),
    }[test]
    assert abs(cubes.mean().item() - third) < 4 * cubes.std().item() / math.sqrt(batch)


def squared_cosine_sd(d):
    return float(beta(0.5, (d - 1) / 2).std())


@pytest.mark.parametrize("d", [3, 20])
def test_the_law_of_large_samples_is_chi_squared(d):
    x = uniform(10_000, d)
    result = rayleigh_test(x)
    assert result.p_value.item() == pytest.approx(chi2.sf(result.statistic.item(), d), abs=1e-3)
    result, freedom = bingham_test(x), (d - 1) * (d + 2) / 2
    expected = chi2.sf(result.statistic.item(), freedom)
    assert result.p_value.item() == pytest.approx(expected, abs=1e-3)


def test_statistics_by_their_definitions():
    x = uniform(7, 5)
    assert rayleigh_test(x).statistic.item() == pytest.approx(7 * 5 * x.mean(0).norm().item() ** 2)
    moment = x.T @ x / 7
    expected = 7 * 5 * 7 / 2 * (moment @ moment).trace().item() - 7 * 7 / 2
    assert bingham_test(x).statistic.item() == pytest.approx(expected)
    few = uniform(3, 5)  # fewer points than dimensions
    moment = few.T @ few / 3
    expected = 3 * 5 * 7 / 2 * ((moment @ moment).trace().item() - 1 / 5)
    assert bingham_test(few).statistic.item() == pytest.approx(expected)


def test_each_sees_its_alternative_alone():
    torch.manual_seed(0)
    loc = torch.eye(6)[0]
    one_side = PowerSpherical(loc, torch.tensor(4.0)).sample((300,))
    both_sides = one_side * torch.randint(0, 2, (300, 1)).mul(2).sub(1)
    assert rayleigh_test(one_side).p_value < 1e-6
    assert bingham_test(one_side).p_value < 1e-3
    assert rayleigh_test(both_sides).p_value > 0.01
    assert bingham_test(both_sides).statistic == bingham_test(one_side).statistic


@TESTS
def test_simulated_p_values_agree(test):
    x = uniform(20, 15, 4)
    simulated = test(x, n_simulations=2000, generator=torch.Generator().manual_seed(1))
    approximate = test(x)
    torch.testing.assert_close(simulated.statistic, approximate.statistic)
    p = approximate.p_value
    assert ((simulated.p_value - p).abs() < 0.01 + 4 * (p * (1 - p) / 2000).sqrt()).all()
    assert test(uniform(1, 3), n_simulations=9).p_value == 1  # a single point tells nothing


@TESTS
def test_batches_dtypes_and_lengths(test):
    x = uniform(2, 3, 30, 4).float()
    result = test(x)
    assert result.p_value.shape == result.statistic.shape == (2, 3)
    assert result.p_value.dtype == torch.float64
    torch.testing.assert_close(test(x[1, 2]).p_value, result.p_value[1, 2])
    scaled = x * torch.rand(2, 3, 30, 1).add(0.5)
    torch.testing.assert_close(test(scaled).statistic, result.statistic, rtol=1e-5, atol=1e-5)
    assert test(x[:0]).p_value.shape == (0, 3)


@TESTS
@pytest.mark.parametrize("options", [{}, {"n_simulations": 9}])
def test_what_has_no_direction_gives_nan(test, options):
    x = uniform(3, 20, 4)
    x[0, 0, 0], x[1, 5] = math.nan, 0.0
    result = test(x, **options)
    assert result.p_value.isnan().tolist() == [True, True, False]
    assert result.statistic.isnan().tolist() == [True, True, False]


@TESTS
@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([[1.0, 0.0]], {}, TypeError, "x must be a tensor"),
        (torch.ones(3, 2, dtype=torch.int64), {}, TypeError, "torch.int64"),
        (torch.ones(4), {}, ValueError, r"shape \(\.\.\., n, d\)"),
        (torch.ones(4, 1), {}, ValueError, "d >= 2"),
        (torch.ones(2, 3), {}, ValueError, "n >= 3 points unless n_simulations is given, got 2"),
        (torch.ones(0, 3), {"n_simulations": 9}, ValueError, "n >= 1"),
        (torch.ones(4, 3), {"n_simulations": 0}, ValueError, "n_simulations must be at least 1"),
    ],
)
def test_bad_input(test, x, options, error, message):
    with pytest.raises(error, match=message):
        test(x, **options)

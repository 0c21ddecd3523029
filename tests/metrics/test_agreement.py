"""Rank correlations, the test by crops, bootstrap intervals and the row of the URL benchmark."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, spearmanr

from powerspherical_ext.metrics import (
    augrc,
    auroc,
    bootstrap,
    cropped_has_bigger_uncertainty,
    entropy_correlation,
    ood_auroc,
    r_auroc,
    rank_correlation,
    recall_at_1,
    risk_coverage,
    url_report,
)

NUMBERS = st.lists(st.integers(-5, 5), min_size=2, max_size=20).filter(lambda x: len(set(x)) > 1)


@given(NUMBERS, st.randoms())
def test_rank_correlation_against_scipy(x, random):
    y = list(x)
    random.shuffle(y)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_entropy_correlation_against_scipy():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, (200, 4)) + np.eye(4, dtype=int)[rng.integers(0, 4, 200)]
    score = rng.normal(size=200)
    expected = spearmanr(-score, entropy(counts, axis=1)).statistic
    assert entropy_correlation(score, counts) == pytest.approx(expected, abs=1e-12)
    assert entropy_correlation(score, 3.0 * counts) == pytest.approx(expected, abs=1e-12)
    assert entropy_correlation(-entropy(counts, axis=1), counts) == pytest.approx(1)


def test_cropped_has_bigger_uncertainty_counts_images():
    whole, cropped = torch.tensor([3.0, 3.0, 3.0, 3.0]), torch.tensor([2.0, 3.0, 4.0, -9.0])
    assert cropped_has_bigger_uncertainty(whole, cropped) == 0.5


@pytest.mark.slow
def test_bootstrap_covers_the_mean():
    """1,000 intervals of level 0.9 of a mean of 50 normal numbers: the coverage is 0.9 less the
    bias of a percentile interval, 0.011 at this size; five standard errors are 0.047."""
    covered = 0
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(50, generator=generator, dtype=torch.float64)
        interval = bootstrap(torch.mean, x, level=0.9, n_resamples=200, generator=generator)
        covered += interval.low <= 0 <= interval.high
    assert abs(covered / 1000 - 0.889) < 0.047


def test_bootstrap_keeps_the_samples_of_several_arrays_together():
    x = torch.arange(30.0)
    generator = torch.Generator().manual_seed(0)
    interval = bootstrap(rank_correlation, x, 2 * x, n_resamples=20, generator=generator)
    torch.testing.assert_close(interval.values, torch.ones(20, dtype=torch.float64))
    again = bootstrap(torch.mean, x, generator=torch.Generator().manual_seed(5))
    same = bootstrap(torch.mean, x, generator=torch.Generator().manual_seed(5))
    assert again.low == same.low
    assert torch.equal(again.values, same.values)


def test_bootstrap_draws_a_resample_without_a_statistic_again():
    score, correct = torch.arange(6.0), torch.arange(6) == 5  # a third lack the right answer
    interval = bootstrap(auroc, score, correct, n_resamples=200)
    assert len(interval.values) == 200
    assert not interval.values.isnan().any()
    with pytest.raises(ValueError, match="right and wrong answers"):
        bootstrap(auroc, score, torch.ones(6))


def test_url_report_has_the_value_of_each_measure():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 8, generator=generator)
    labels = torch.arange(60) % 5
    x = centres[labels] + torch.randn(60, 8, generator=generator)
    score, cropped, outside = (torch.randn(n, generator=generator) for n in (60, 60, 40))
    soft = torch.rand(60, 3, generator=generator)
    report = url_report(
        *(x, labels, score),
        score_cropped=cropped,
        score_out=outside,
        soft_labels=soft,
        n_resamples=50,
        generator=generator,
    )
    correct = recall_at_1(x, labels)
    expected = {
        "r1": correct.double().mean().item(),
        "auroc_correct": r_auroc(x, labels, score),
        "augrc_correct": augrc(score, correct),
        "aurc_correct": risk_coverage(score, correct).aurc,
        "croppedHasBiggerUnc": cropped_has_bigger_uncertainty(score, cropped),
        "auroc_ood": ood_auroc(score, outside),
        "rcorr_entropy": entropy_correlation(score, soft),
        "min_unc": -score.max().item(),
        "max_unc": -score.min().item(),
        "avg_unc": -score.mean().item(),
    }
    assert set(report) == set(expected)
    for name, value in expected.items():
        interval = report[name]
        assert interval.estimate == pytest.approx(value, rel=1e-6)
        assert interval.low <= interval.estimate <= interval.high
        assert f"\n{name} " in str(report)
    assert set(url_report(x, labels, score, n_resamples=2)) == set(expected) - {
        *("croppedHasBiggerUnc", "auroc_ood", "rcorr_entropy")
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_correlation([1.0, 1.0], [1.0, 2.0]), "x must not be constant"),
        (lambda: rank_correlation([1.0, 2.0], [1.0]), "the same shape"),
        (lambda: rank_correlation([1.0, math.nan], [1.0, 2.0]), "x must not be NaN"),
        (lambda: entropy_correlation([1.0, 2.0], [[1.0], [0.0]]), "positive sum"),
        (lambda: entropy_correlation([1.0, 2.0], [[2.0, -1.0], [1.0, 1.0]]), "not negative"),
        (lambda: entropy_correlation([1.0, 2.0], [1.0, 2.0]), r"shape \(2, C\)"),
        (lambda: cropped_has_bigger_uncertainty([1.0], [1.0, 2.0]), "the same shape"),
        (lambda: cropped_has_bigger_uncertainty([], []), "N >= 1"),
        (lambda: bootstrap(torch.mean), "one or more, got"),
        (lambda: bootstrap(auroc, [1.0, 2.0], [True]), "the same length"),
        (lambda: bootstrap(torch.mean, [1.0], level=1), "level must be"),
        (lambda: bootstrap(torch.mean, [1.0], n_resamples=0), "n_resamples must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

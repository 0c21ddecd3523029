"""AUGRC, coverage and risk, FPR at 95 % and detection, against loops, closed forms and peers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from powerspherical_ext.metrics import (
    augrc,
    auroc,
    coverage_at_risk,
    fpr_at_tpr,
    ood_auroc,
    risk_at_coverage,
    risk_coverage,
)

ANSWERS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=7)
BOTH = ANSWERS.filter(lambda pairs: len({right for _, right in pairs}) == 2)


def split(pairs):
    return [float(score) for score, _ in pairs], [right for _, right in pairs]


@given(ANSWERS)
def test_augrc_is_the_mean_area_over_the_orders_of_ties(pairs):
    n, areas = len(pairs), []
    for order in itertools.permutations(pairs):
        ranked = sorted(order, key=lambda pair: -pair[0])  # stable: ties stay in this order
        risk = np.cumsum([0, *(not right for _, right in ranked)]) / n
        areas.append(np.trapezoid(risk, dx=1 / n))
    assert augrc(*split(pairs)) == pytest.approx(np.mean(areas), abs=1e-12)


@given(BOTH)
def test_augrc_follows_from_auroc_and_accuracy(pairs):
    """Traub et al. 2024, equation 7."""
    score, correct = split(pairs)
    a = np.mean(correct)
    expected = (1 - auroc(score, correct)) * a * (1 - a) + (1 - a) ** 2 / 2
    assert augrc(score, correct) == pytest.approx(expected, abs=1e-12)


@given(ANSWERS, st.floats(0, 1))
def test_coverage_at_risk_is_that_of_the_best_threshold(pairs, risk):
    best = 0.0
    for threshold, _ in pairs:
        accepted = [right for score, right in pairs if score >= threshold]
        if np.mean([not right for right in accepted]) <= risk:
            best = max(best, len(accepted) / len(pairs))
    assert coverage_at_risk(*split(pairs), risk) == pytest.approx(best, abs=1e-12)


@given(ANSWERS, st.integers(1, 7))
def test_risk_at_coverage_is_a_point_of_the_curve(pairs, k):
    k = min(k, len(pairs))
    curve = risk_coverage(*split(pairs))
    risk = risk_at_coverage(*split(pairs), k / len(pairs))
    assert risk == curve.risk[k - 1].item()
    assert curve.coverage[k - 1].item() == pytest.approx(k / len(pairs))


def test_a_risk_equal_to_the_bound_is_within_it():
    score, correct = torch.arange(10.0, 0, -1), torch.arange(10) % 5 != 4  # 2 of 10 wrong
    assert coverage_at_risk(score, correct, 0.2) == 1.0
    assert risk_at_coverage(score, correct, 1.0) == pytest.approx(0.2)


@given(BOTH, st.floats(0.01, 1))
def test_fpr_at_tpr_against_scikit_learn(pairs, tpr):
    metrics = pytest.importorskip("sklearn.metrics")
    score, correct = split(pairs)
    fpr, reached, _ = metrics.roc_curve(correct, score, drop_intermediate=False)
    expected = fpr[np.argmax(reached >= tpr - 1e-12)]
    assert fpr_at_tpr(score, correct, tpr) == pytest.approx(expected, abs=1e-12)


def test_fpr_at_tpr_of_a_round_share():
    score, correct = torch.arange(40.0, 0, -1), torch.arange(40) < 20
    assert fpr_at_tpr(score, correct) == 0.0  # 19 of 20 is 0.95
    worst = torch.where(torch.arange(40) == 19, -1.0, score)  # the least certain right answer
    assert fpr_at_tpr(worst, correct) == 0.0
    assert fpr_at_tpr(worst, correct, tpr=1.0) == 1.0


def test_ood_auroc_is_auroc_of_both_sets():
    generator = torch.Generator().manual_seed(0)
    inside, outside = (torch.randn(n, generator=generator) for n in (50, 31))
    wins = (inside[:, None] > outside).double().mean().item()
    assert ood_auroc(inside, outside) == pytest.approx(wins, abs=1e-12)
    assert ood_auroc(inside + 10, outside) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coverage_at_risk([1.0], [True], 1.5), "risk must be from 0 to 1, got 1.5"),
        (lambda: coverage_at_risk([1.0], [True], math.nan), "risk must be from 0 to 1, got nan"),
        (lambda: risk_at_coverage([1.0], [True], 0), "coverage must be above 0"),
        (lambda: fpr_at_tpr([1.0, 2.0], [True, False], 0), "tpr must be above 0"),
        (lambda: fpr_at_tpr([1.0, 2.0], [True, True]), "right and wrong answers"),
        (lambda: ood_auroc([], [1.0]), "one sample or more each, got 0 and 1"),
        (lambda: ood_auroc([math.nan], [1.0]), "score_in must not be NaN"),
        (lambda: augrc([1.0], [True, False]), "correct must have the shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

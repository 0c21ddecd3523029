"""powerspherical_ext.metrics against definitions written as loops, SciPy and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from powerspherical_ext.metrics import (
    accuracy_by_bin,
    auroc,
    auroc_chance_sd,
    logistic_regression,
    permutation_test,
    r_auroc,
    recall_at_1,
    risk_coverage,
)


def sample(n, seed=0, ties=False):
    """Scores that tell something about being right."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.6
    score = rng.normal(size=n) + 0.8 * correct
    return (np.round(score) if ties else score), correct


SCORED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: 0 < sum(right for _, right in pairs) < len(pairs)
)


# AUROC


@given(SCORED)
def test_auroc_is_the_share_of_pairs_in_order(pairs):
    right = [s for s, correct in pairs if correct]
    wrong = [s for s, correct in pairs if not correct]
    wins = [(r > w) + (r == w) / 2 for r, w in itertools.product(right, wrong)]
    score, correct = zip(*pairs, strict=True)
    assert auroc(score, correct) == pytest.approx(sum(wins) / len(wins), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_against_scikit_learn_and_scipy(ties):
    metrics = pytest.importorskip("sklearn.metrics")
    score, correct = sample(2000, ties=ties)
    ours = auroc(score, correct)
    assert ours == pytest.approx(metrics.roc_auc_score(correct, score), abs=1e-12)
    u = mannwhitneyu(score[correct], score[~correct]).statistic
    assert ours == pytest.approx(u / (correct.sum() * (~correct).sum()), abs=1e-12)
    assert auroc(-score, correct) == pytest.approx(1 - ours, abs=1e-12)


def test_auroc_takes_tensors_and_large_float32_scores():
    score, correct = sample(50)
    assert auroc(torch.tensor(score), torch.tensor(correct).int()) == auroc(score, correct)
    assert auroc(torch.tensor([852.0, 853.0, 856.0]), [0, 1, 1]) == 1
    assert auroc([-math.inf, 0.0, math.inf], [0, 1, 1]) == 1


def test_auroc_chance_sd_is_that_of_shuffled_labels():
    """10,000 shufflings know an sd to 0.7 %: 4 % off is no accident (1 in 1e7)."""
    score, correct = sample(60)
    generator = torch.Generator().manual_seed(0)
    shuffled = permutation_test(auroc, score, correct, n_shuffles=10_000, generator=generator)
    assert auroc_chance_sd(correct) == pytest.approx(shuffled.null.std().item(), rel=0.04)


# Retrieval


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_recall_at_1_is_the_nearest_other(chunk):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = []
    for i in range(40):
        others = [j for j in range(40) if j != i]
        nearest = max(others, key=lambda j: unit[i] @ unit[j])
        expected.append(y[i] == y[nearest])
    found = recall_at_1(torch.tensor(x), torch.tensor(y), chunk=chunk)
    assert found.tolist() == expected
    score = rng.normal(size=40)
    assert r_auroc(x, y, score) == pytest.approx(auroc(score, expected))


# Risk and coverage


@given(SCORED)
def test_risk_coverage_is_the_mean_over_the_orders_of_ties(pairs):
    score, correct = (np.array(x) for x in zip(*pairs, strict=True))
    curve = risk_coverage(score, correct)
    orders = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        order = np.lexsort((rng.random(len(score)), -score))
        orders.append(np.cumsum(~correct[order]) / np.arange(1, len(score) + 1))
    error = np.std(orders, axis=0) / 20
    # 5 standard errors, and rounding; hypothesis runs the same examples every time
    assert (np.abs(curve.risk.numpy() - np.mean(orders, axis=0)) <= 5 * error + 0.02).all()
    assert curve.risk[-1].item() == pytest.approx((~correct).mean())
    assert curve.optimal_aurc <= curve.aurc + 1e-12


def test_risk_coverage_without_ties():
    score, correct = sample(200)
    curve = risk_coverage(score, correct)
    order = np.argsort(-score)
    risk = np.cumsum(~correct[order]) / np.arange(1, 201)
    np.testing.assert_allclose(curve.risk, risk)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 201) / 200)
    assert curve.aurc == pytest.approx(risk.mean())
    best = np.cumsum(np.sort(~correct)) / np.arange(1, 201)
    assert curve.optimal_aurc == pytest.approx(best.mean())
    assert risk_coverage(correct.astype(float), correct).aurc == pytest.approx(best.mean())


@pytest.mark.parametrize(("correct", "aurc"), [([True] * 3, 0.0), ([False] * 3, 1.0)])
def test_risk_coverage_of_one_kind_of_answer(correct, aurc):
    curve = risk_coverage([1.0, 2.0, 3.0], correct)
    assert curve.aurc == curve.optimal_aurc == aurc


# Permutation test


def test_permutation_p_value_against_every_permutation():
    """Of the 720 orders; the estimate from 5,000 has an sd of sqrt(p (1 - p)/5000) < .0051."""
    x, y = torch.arange(6.0), torch.tensor([0.0, 2.0, 1.0, 3.0, 5.0, 4.0])

    def product(a, b):
        return (a * b).sum()

    exact = torch.tensor([product(x, y[list(o)]).item() for o in itertools.permutations(range(6))])
    for alternative, y_used in (("greater", y), ("less", y.flip(0)), ("two-sided", y)):
        observed = product(x, y_used)
        if alternative == "greater":
            p = (exact >= observed).double().mean()
        elif alternative == "less":
            p = (exact <= observed).double().mean()
        else:
            p = ((exact - exact.mean()).abs() >= (observed - exact.mean()).abs()).double().mean()
        generator = torch.Generator().manual_seed(1)
        test = permutation_test(
            product, x, y_used, n_shuffles=5000, alternative=alternative, generator=generator
        )
        assert test.statistic == observed.item()
        assert test.null.shape == (5000,)
        assert abs(test.p_value - p.item()) < 5 * math.sqrt(p.item() / 5000)


def test_permutation_test_without_a_relation_is_uniform():
    """100 tests; the number with p <= 0.1 is binomial: more than 24 in 2e-5 of all seeds."""
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    low = 0
    for _ in range(100):
        score, correct = rng.normal(size=40), rng.random(40) < 0.5
        test = permutation_test(auroc, score, correct, n_shuffles=49, generator=generator)
        low += test.p_value <= 0.1
    assert low <= 24


def test_permutation_test_repeats_with_its_generator():
    score, correct = sample(50)
    nulls = [
        permutation_test(
            auroc, score, correct, n_shuffles=5, generator=torch.Generator().manual_seed(3)
        ).null
        for _ in range(2)
    ]
    assert torch.equal(*nulls)


# Logistic regression


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_logistic_regression_against_scikit_learn(scale):
    linear_model = pytest.importorskip("sklearn.linear_model")
    score, correct = sample(500)
    score = scale * (score + 3)
    fit = logistic_regression(score, correct)
    z = (score - score.mean()) / score.std()
    model = linear_model.LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], correct)
    assert fit.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert fit.intercept == pytest.approx(model.intercept_[0], rel=1e-4)
    assert (fit.mean, fit.sd) == pytest.approx((score.mean(), score.std()))
    np.testing.assert_allclose(fit.predict(score), model.predict_proba(z[:, None])[:, 1], rtol=1e-4)


@given(SCORED)
def test_logistic_regression_has_no_gradient_left(pairs):
    score, correct = (np.array(x, dtype=float) for x in zip(*pairs, strict=True))
    right, wrong = score[correct == 1], score[correct == 0]
    if right.min() >= wrong.max() or wrong.min() >= right.max():
        with pytest.raises(ValueError, match=r"constant|separates"):
            logistic_regression(score, correct)
        return
    fit = logistic_regression(score, correct)
    residual = correct - fit.predict(score).numpy()
    assert abs(residual.sum()) < 1e-6 * len(score)
    assert abs((residual * (score - fit.mean) / fit.sd).sum()) < 1e-6 * len(score)


def test_logistic_slope_and_its_p_value():
    score, correct = sample(200)
    generator = torch.Generator().manual_seed(0)
    test = permutation_test(
        lambda s, c: logistic_regression(s, c).slope,
        score,
        correct,
        n_shuffles=99,
        generator=generator,
    )
    assert test.statistic == logistic_regression(score, correct).slope > 0
    assert test.p_value == 0.01


# Bins


def test_accuracy_by_bin_of_equal_size():
    score, correct = sample(100)
    table = accuracy_by_bin(score, correct, bins=4)
    for k, part in enumerate(np.argsort(score).reshape(4, 25)):
        assert table.size[k] == 25
        assert table.score[k].item() == pytest.approx(score[part].mean())
        assert table.accuracy[k].item() == pytest.approx(correct[part].mean())


def test_accuracy_by_bin_between_borders():
    table = accuracy_by_bin([0.0, 1.0, 1.5, 2.0, 9.0], [1, 0, 1, 1, 0], bins=[0.0, 1.0, 2.0])
    assert table.size.tolist() == [1, 3]
    assert table.accuracy.tolist() == pytest.approx([1, 2 / 3])
    empty = accuracy_by_bin([0.5], [1], bins=[0, 1, 2])
    assert empty.size.tolist() == [1, 0]
    assert math.isnan(empty.accuracy[1])


@given(SCORED, st.integers(1, 12))
def test_accuracy_by_bin_loses_no_sample(pairs, bins):
    score, correct = zip(*pairs, strict=True)
    table = accuracy_by_bin(score, correct, bins=bins)
    assert len(table.size) <= bins
    assert table.size.sum() == len(pairs)
    assert (table.size > 0).all()
    assert (table.accuracy * table.size).sum().item() == pytest.approx(sum(correct))


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc([1.0, 2.0], [1]), r"correct must have the shape \(2,\).*got \(1,\)"),
        (lambda: auroc([math.nan, 2.0], [0, 1]), "score must not be NaN"),
        (lambda: auroc([1.0, 2.0], [1, 1]), "2 right and 0 wrong"),
        (lambda: auroc([1.0, 2.0], [0, 2]), "booleans, or 0 and 1"),
        (lambda: auroc([[1.0, 2.0]], [[0, 1]]), r"got \(1, 2\)"),
        (lambda: auroc([1.0, 2.0], [0.2, 0.9]), "booleans, or 0 and 1"),
        (lambda: auroc_chance_sd([0, 0]), "0 right and 2 wrong"),
        (lambda: risk_coverage([], []), "one sample or more"),
        (lambda: recall_at_1([[1.0, 2.0]], [0]), r"N >= 2, got \(1, 2\)"),
        (lambda: recall_at_1([[1.0, 2.0]] * 2, [0]), r"labels must have shape \(2,\)"),
        (lambda: recall_at_1([[1.0, math.nan]] * 2, [0, 1]), "embeddings must be finite"),
        (lambda: permutation_test(auroc, [1.0, 2.0], [0]), "same number of samples"),
        (lambda: permutation_test(auroc, [1.0, 2.0], [0, 1], n_shuffles=0), "at least 1, got 0"),
        (lambda: permutation_test(auroc, [1.0, 2.0], [0, 1], alternative="x"), "got 'x'"),
        (lambda: permutation_test(lambda x, y: math.nan, [1, 2], [0, 1]), "a number, got NaN"),
        (lambda: logistic_regression([1.0, 1.0], [0, 1]), "constant, got 1.0"),
        (lambda: logistic_regression([1.0, 2.0], [0, 1]), "threshold that separates"),
        (lambda: logistic_regression([1.0, 2.0, 2.0], [0, 0, 1]), "threshold that separates"),
        (lambda: logistic_regression([1.0, math.inf], [0, 1]), "finite"),
        (lambda: accuracy_by_bin([1.0], [1], bins=0), "at least 1, got 0"),
        (lambda: accuracy_by_bin([1.0], [1], bins=[1.0, 0.0]), "ascending"),
        (lambda: accuracy_by_bin([math.inf], [1]), "finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

r"""Measures of a confidence: they tell whether right answers have a higher kappa than wrong ones.

Each function takes a score, which is one number for each sample and higher for more confident, and
the correctness of each answer. kappa, the length of a feature and minus an entropy are such scores.

Inputs are tensors, NumPy arrays or sequences of N numbers. The computation runs in float64 on the
device of the score, in plain torch, and nothing carries gradients. The package therefore does not
need scikit-learn, whose `roc_auc_score` and `LogisticRegression` the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "AccuracyByBin",
    "LogisticFit",
    "PermutationTest",
    "RiskCoverage",
    "accuracy_by_bin",
    "auroc",
    "auroc_chance_sd",
    "logistic_regression",
    "permutation_test",
    "r_auroc",
    "recall_at_1",
    "risk_coverage",
]


class RiskCoverage(NamedTuple):
    """The error rate of the most confident answers, for every number of answers.

    Example:
        >>> RiskCoverage(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.5]), 0.25, 0.25).aurc
        0.25
    """

    coverage: Tensor
    """k/N for k = 1 .. N, shape (N,)."""
    risk: Tensor
    """Error rate among the k most confident, shape (N,)."""
    aurc: float
    """Area under the curve: the mean of the risks."""
    optimal_aurc: float
    """The AURC of a score that ranks every error last."""


class PermutationTest(NamedTuple):
    """A statistic of (x, y), and its distribution if x and y are independent.

    Example:
        >>> PermutationTest(0.9, 0.01, torch.tensor([0.4, 0.6])).p_value
        0.01
    """

    statistic: float
    """The statistic of the data."""
    p_value: float
    """The fraction of permutations that reach the statistic; the data count as one of them."""
    null: Tensor
    """The statistic of each permutation, shape (n_shuffles,)."""


class LogisticFit(NamedTuple):
    """P(correct) = 1 / (1 + exp(-(intercept + slope (score - mean) / sd))).

    Example:
        >>> fit = LogisticFit(slope=1.0, intercept=0.0, mean=50.0, sd=10.0)
        >>> fit.predict(torch.tensor([50.0, 60.0]))
        tensor([0.5000, 0.7311], dtype=torch.float64)
    """

    slope: float
    """Change of the log-odds per standard deviation of the score."""
    intercept: float
    """Log-odds at the mean score."""
    mean: float
    """Mean of the score."""
    sd: float
    """Standard deviation of the score, with divisor N."""

    def predict(self, score: Any) -> Tensor:
        """The fitted probability of being right at each score, (N,)."""
        z = (_vector(score, "score") - self.mean) / self.sd
        return torch.sigmoid(self.intercept + self.slope * z)


class AccuracyByBin(NamedTuple):
    """The accuracy in each bin of the score.

    Example:
        >>> one = torch.ones(1)
        >>> AccuracyByBin(torch.tensor([0.0, 2.0]), one, one, torch.tensor([8])).size
        tensor([8])
    """

    edges: Tensor
    """Borders of the bins, shape (n_bins + 1,)."""
    score: Tensor
    """Mean score of each bin, NaN for an empty bin."""
    accuracy: Tensor
    """Fraction of right answers in each bin, NaN for an empty bin."""
    size: Tensor
    """Number of samples in each bin."""


def auroc(score: Any, correct: Any) -> float:
    r"""The probability that a right answer has a higher score than a wrong one; a tie counts half.

    .. code-block:: text

        AUROC = (sum of the ranks of the right - n_r (n_r + 1)/2) / (n_r n_w)

    Tied scores have their mean rank (Mann and Whitney 1947). Chance is 0.5, with the standard
    deviation of :func:`auroc_chance_sd`.

    Args:
        score: (N,), higher is more confident.
        correct: (N,), booleans or 0 and 1.

    Raises:
        ValueError: lengths that differ, a NaN, labels that are neither 0 nor 1, or answers that are
            all right or all wrong, which leaves nothing to rank.

    Example:
        >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
        0.75
    """
    score, correct = _scored(score, correct)
    right, wrong = _both(correct)
    rank_sum = _mean_ranks(score)[correct].sum().item()
    return (rank_sum - right * (right + 1) / 2) / (right * wrong)


def auroc_chance_sd(correct: Any) -> float:
    r"""The standard deviation of the AUROC of a random score without ties.

    .. code-block:: text

        sd = sqrt( (N + 1) / (12 n_r n_w) )

    Args:
        correct: (N,), booleans or 0 and 1.

    Raises:
        ValueError: as :func:`auroc`.

    Example:
        >>> print(f"{auroc_chance_sd([True] * 500 + [False] * 500):.4f}")
        0.0183

    Source:
        Mann and Whitney, "On a test of whether one of two random variables is stochastically larger
        than the other", 1947.
    """
    right, wrong = _both(_labels(correct))
    return math.sqrt((right + wrong + 1) / (12 * right * wrong))


def recall_at_1(embeddings: Any, labels: Any, *, chunk: int = 1024) -> Tensor:
    """For each sample: has the nearest other sample, by cosine, the same label? Booleans, (N,).

    Args:
        embeddings: (N, d), N >= 2; the length of a row does not matter.
        labels: (N,) integers.
        chunk: number of rows of the similarity matrix in memory at a time.

    Raises:
        ValueError: shapes that do not fit, or a NaN.

    Example:
        >>> recall_at_1([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 1.0]], [0, 0, 1, 2])
        tensor([ True,  True, False, False])

    Source:
        Kirchhof, Mucsanyi, Oh and Kasneci, "URL: A Representation Learning Benchmark for
        Transferable Uncertainty Estimates", NeurIPS 2023.
    """
    x = torch.as_tensor(embeddings).detach()
    y = torch.as_tensor(labels, device=x.device).detach()
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"embeddings must have shape (N, d) with N >= 2, got {tuple(x.shape)}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"labels must have shape {(len(x),)}, got {tuple(y.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError("embeddings must be finite, got NaN or infinite values")
    x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
    nearest = []
    for start in range(0, len(x), chunk):
        similarity = x[start : start + chunk] @ x.T
        rows = torch.arange(len(similarity), device=x.device)
        similarity[rows, rows + start] = -math.inf
        nearest.append(similarity.argmax(dim=-1))
    return y[torch.cat(nearest)] == y


def r_auroc(embeddings: Any, labels: Any, score: Any) -> float:
    """The AUROC of the score for right retrievals: :func:`auroc` of :func:`recall_at_1`.

    It needs no classifier and no training set, and therefore compares across models.

    Args:
        embeddings, labels: as in :func:`recall_at_1`.
        score: (N,), higher is more confident.

    Raises:
        ValueError: as the two functions.

    Example:
        >>> x = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 1.0]]
        >>> r_auroc(x, [0, 0, 1, 2], score=[9.0, 8.0, 3.0, 8.5])
        0.75

    Source:
        Kirchhof et al. 2023.
    """
    return auroc(score, recall_at_1(embeddings, labels))


def risk_coverage(score: Any, correct: Any) -> RiskCoverage:
    r"""The error rate among the k most confident samples, for every k, and its area (AURC).

    .. code-block:: text

        risk(k) = errors among the k highest scores / k,     AURC = mean over k = 1 .. N

    Errors within tied scores are spread evenly. This is the mean over all orders of the tied
    samples, so that the result does not depend on the order of the arguments.

    Args:
        score: (N,), higher is more confident.
        correct: (N,), booleans or 0 and 1; all right and all wrong are allowed.

    Raises:
        ValueError: lengths that differ, no sample, a NaN, labels that are neither 0 nor 1.

    Example:
        >>> curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
        >>> curve.risk
        tensor([0.0000, 0.5000, 0.3333, 0.5000], dtype=torch.float64)
        >>> print(f"{curve.aurc:.4f}, at best {curve.optimal_aurc:.4f}")
        0.3333, at best 0.2083

    Source:
        Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
        Classifiers", ICLR 2019.
    """
    score, correct = _scored(score, correct)
    wrong = (~correct).to(torch.float64)
    _, group, size = torch.unique(-score, return_inverse=True, return_counts=True)
    rate = torch.zeros_like(size, dtype=torch.float64).scatter_add_(0, group, wrong) / size
    risk = _running_mean(rate.repeat_interleave(size))
    optimal = _running_mean(wrong.sort().values)
    coverage = torch.arange(1, len(score) + 1, device=score.device).to(torch.float64) / len(score)
    return RiskCoverage(coverage, risk, risk.mean().item(), optimal.mean().item())


def permutation_test(
    statistic: Callable[[Tensor, Tensor], float | Tensor],
    x: Any,
    y: Any,
    *,
    n_shuffles: int = 1000,
    alternative: str = "greater",
    generator: torch.Generator | None = None,
) -> PermutationTest:
    r"""Test of independence: how often does a permuted y reach the statistic of (x, y)?

    .. code-block:: text

        p = (1 + number of permutations at least as extreme) / (1 + n_shuffles)

    p is never 0. If x and y are independent, it is at most 0.01 in one of a hundred tests.

    Args:
        statistic: a function of (x, y) that returns a number: :func:`auroc`, the slope of
            :func:`logistic_regression`, or a correlation.
        x, y: (N,), or any tensors with N samples along the first dimension; y is permuted.
        n_shuffles: number of permutations.
        alternative: which statistics are as extreme: ``"greater"`` ones, ``"less"``, or with
            ``"two-sided"`` those as far from the mean over the permutations.
        generator: draws the permutations, on the device of y; default: torch's own.

    Raises:
        ValueError: lengths that differ, fewer than one permutation, an unknown alternative, or a
            statistic that is NaN.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> correct = torch.arange(40) >= 20
        >>> test = permutation_test(auroc, torch.arange(40.0), correct, generator=generator)
        >>> print(f"{test.statistic:.1f} {test.p_value:.4f}")
        1.0 0.0010

    Source:
        Nakamura, Okada and Taniguchi 2023, Appendix J.
    """
    x, y = torch.as_tensor(x).detach(), torch.as_tensor(y).detach()
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            "x and y must hold the same number of samples, two or more, got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if n_shuffles < 1:
        raise ValueError(f"n_shuffles must be at least 1, got {n_shuffles}")
    if alternative not in ("greater", "less", "two-sided"):
        raise ValueError(
            f"alternative must be 'greater', 'less' or 'two-sided', got {alternative!r}"
        )
    observed = float(statistic(x, y))
    values = []
    for _ in range(n_shuffles):
        order = torch.randperm(len(y), generator=generator, device=y.device)
        values.append(float(statistic(x, y[order])))
    null = torch.tensor(values, dtype=torch.float64)
    if math.isnan(observed) or bool(null.isnan().any()):
        raise ValueError("statistic must be a number, got NaN")
    extreme, reached = null, observed
    if alternative == "less":
        extreme, reached = -null, -observed
    elif alternative == "two-sided":
        centre = null.mean().item()
        extreme, reached = (null - centre).abs(), abs(observed - centre)
    # A permutation that gives the same value up to rounding is as extreme.
    at_least = int((extreme >= reached - 1e-12 * max(1.0, abs(reached))).sum())
    return PermutationTest(observed, (1 + at_least) / (1 + n_shuffles), null)


def logistic_regression(score: Any, correct: Any, *, max_iterations: int = 100) -> LogisticFit:
    r"""Maximum likelihood of P(correct) = sigmoid(intercept + slope z), z the standardised score.

    The slope is positive if right answers have higher scores. Its p-value is that of::

        permutation_test(lambda k, c: logistic_regression(k, c).slope, kappa, correct)

    Args:
        score: (N,), finite and not all the same.
        correct: (N,), booleans or 0 and 1.
        max_iterations: steps of Newton's method, each halved until the likelihood does not fall.

    Raises:
        ValueError: lengths that differ, a score that is NaN, infinite or constant, labels that are
            neither 0 nor 1, answers that are all right or all wrong, or a threshold of the score
            that separates right from wrong, where the likelihood has no maximum.
        RuntimeError: no convergence.

    Example:
        >>> fit = logistic_regression([1.0, 2.0, 3.0, 4.0], [False, True, False, True])
        >>> print(f"{fit.slope:.3f}")
        1.015

    Source:
        Nakamura, Okada and Taniguchi 2023, Appendix C and figure 9.
    """
    score, correct = _scored(score, correct)
    if not bool(score.isfinite().all()):
        raise ValueError("score must be finite, got an infinity")
    _both(correct)
    mean, sd = score.mean(), score.std(correction=0)
    if score.min() == score.max():
        raise ValueError(f"score must not be constant, got {score[0].item()} for all")
    right, wrong = score[correct], score[~correct]
    if right.min() >= wrong.max() or wrong.min() >= right.max():
        raise ValueError(
            "score must overlap between right and wrong, got a threshold that separates them: the "
            "likelihood then grows without end in the slope"
        )
    design = torch.stack([torch.ones_like(score), (score - mean) / sd], dim=-1)  # (N, 2)
    target = correct.to(torch.float64)

    def log_likelihood(beta: Tensor) -> float:
        sign = 2 * target - 1
        return F.logsigmoid(sign * (design @ beta)).sum().item()

    beta = torch.zeros(2, dtype=torch.float64, device=score.device)
    value = log_likelihood(beta)
    for _ in range(max_iterations):
        p = torch.sigmoid(design @ beta)
        gradient = design.T @ (target - p)
        if gradient.abs().max() <= 1e-10 * len(score):
            intercept, slope = beta.tolist()
            return LogisticFit(slope, intercept, mean.item(), sd.item())
        hessian = design.T @ (design * (p * (1 - p)).unsqueeze(-1))
        step = torch.linalg.solve(hessian, gradient)
        while (stepped := log_likelihood(beta + step)) < value and step.abs().max() > 1e-12:
            step = step / 2
        beta, value = beta + step, stepped
    raise RuntimeError(f"logistic_regression did not converge in {max_iterations} iterations")


def accuracy_by_bin(score: Any, correct: Any, bins: Any = 10) -> AccuracyByBin:
    """The accuracy in each bin of the score, for a plot of accuracy over score.

    Args:
        score: (N,), finite.
        correct: (N,), booleans or 0 and 1.
        bins: the number of bins, which hold equally many samples as far as ties allow, or the
            ascending borders of the bins. A bin includes its lower border, and the last bin its
            upper border, too. Samples outside the borders are left out.

    Raises:
        ValueError: lengths that differ, a score that is NaN or infinite, labels that are neither 0
            nor 1, fewer than one bin, or borders that do not ascend.

    Example:
        >>> table = accuracy_by_bin([1.0, 2.0, 3.0, 4.0], [False, False, True, False], bins=2)
        >>> table.accuracy, table.size
        (tensor([0.0000, 0.5000], dtype=torch.float64), tensor([2, 2]))

    Source:
        Nakamura, Okada and Taniguchi 2023, figure 9.
    """
    score, correct = _scored(score, correct)
    if not bool(score.isfinite().all()):
        raise ValueError("score must be finite, got an infinity")
    if isinstance(bins, int):
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        # A border is the smallest score of an equal part; ties may make some borders equal.
        starts = torch.arange(bins, device=score.device) * len(score) // bins
        ordered = score.sort().values
        edges = torch.cat([ordered[starts].unique(), ordered[-1:]])
    else:
        edges = _vector(bins, "bins").to(score.device)
        if len(edges) < 2 or not bool((edges.diff() > 0).all()):
            raise ValueError(f"bins must be ascending borders, two or more, got {edges.tolist()}")
    n_bins = len(edges) - 1
    inside = (score >= edges[0]) & (score <= edges[-1])
    score, correct = score[inside], correct[inside]
    index = (torch.searchsorted(edges, score, right=True) - 1).clamp(0, n_bins - 1)
    size = torch.bincount(index, minlength=n_bins)
    mean = torch.bincount(index, weights=score, minlength=n_bins) / size
    accuracy = torch.bincount(index, weights=correct.to(torch.float64), minlength=n_bins) / size
    return AccuracyByBin(edges, mean, accuracy, size)


def _mean_ranks(score: Tensor) -> Tensor:
    """The ranks from 1, (N,); tied scores have their mean rank."""
    _, group, size = torch.unique(score, return_inverse=True, return_counts=True)
    last = size.cumsum(0).to(torch.float64)
    ranks: Tensor = (last - (size - 1) / 2)[group]
    return ranks


def _running_mean(x: Tensor) -> Tensor:
    return x.cumsum(0) / torch.arange(1, len(x) + 1, device=x.device)


def _scored(score: Any, correct: Any) -> tuple[Tensor, Tensor]:
    """The scores in float64 and the labels as booleans, both (N,)."""
    score = _vector(score, "score")
    correct = _labels(correct).to(score.device)
    if score.shape != correct.shape:
        raise ValueError(
            f"correct must have the shape {tuple(score.shape)} of score, got {tuple(correct.shape)}"
        )
    if len(score) == 0:
        raise ValueError("score must hold one sample or more, got none")
    return score, correct


def _vector(x: Any, name: str) -> Tensor:
    x = torch.as_tensor(x).detach()
    if x.ndim != 1 or x.is_complex():
        raise ValueError(f"{name} must be real numbers of shape (N,), got {tuple(x.shape)}")
    x = x.to(torch.float64)
    if bool(x.isnan().any()):
        raise ValueError(f"{name} must not be NaN")
    vector: Tensor = x
    return vector


def _labels(correct: Any) -> Tensor:
    correct = torch.as_tensor(correct).detach()
    if correct.ndim != 1 or not bool(((correct == 0) | (correct == 1)).all()):
        raise ValueError(
            "correct must be booleans, or 0 and 1, of shape (N,), got "
            f"{correct.dtype} of shape {tuple(correct.shape)}"
        )
    labels: Tensor = correct.bool()
    return labels


def _both(correct: Tensor) -> tuple[int, int]:
    """The numbers of right and of wrong answers, both at least one."""
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        raise ValueError(
            f"correct must hold right and wrong answers, got {right} right and {wrong} wrong"
        )
    return right, wrong

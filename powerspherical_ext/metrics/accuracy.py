"""The accuracy as a function of the score: a logistic regression, and a table of bins."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._inputs import both, scored, vector

__all__ = ["AccuracyByBin", "LogisticFit", "accuracy_by_bin", "logistic_regression"]


class LogisticFit(NamedTuple):
    """P(correct) = 1 / (1 + exp(-(intercept + slope (score - mean) / sd))).

    Example:
        >>> fit = LogisticFit(slope=1.0, intercept=0.0, mean=50.0, sd=10.0)
        >>> fit.predict(torch.tensor([50.0, 60.0]))
        tensor([0.5000, 0.7311], dtype=torch.float64)

    Source:
        Nakamura, Okada and Taniguchi 2023, Appendix C and figure 9.
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
        """The fitted probability of being right at each score, (N,), float64."""
        z = (vector(score, "score") - self.mean) / self.sd
        return torch.sigmoid(self.intercept + self.slope * z)


class AccuracyByBin(NamedTuple):
    """The accuracy in each bin of the score.

    Example:
        >>> one = torch.ones(1)
        >>> AccuracyByBin(torch.tensor([0.0, 2.0]), one, one, torch.tensor([8])).size
        tensor([8])

    Source:
        Nakamura, Okada and Taniguchi 2023, figure 9.
    """

    edges: Tensor
    """Borders of the bins, shape (n_bins + 1,)."""
    score: Tensor
    """Mean score of each bin, NaN for an empty bin."""
    accuracy: Tensor
    """Fraction of right answers in each bin, NaN for an empty bin."""
    size: Tensor
    """Number of samples in each bin."""


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
    score, correct = scored(score, correct)
    if not bool(score.isfinite().all()):
        raise ValueError("score must be finite, got an infinity")
    both(correct)
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
    score, correct = scored(score, correct)
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
        edges = vector(bins, "bins").to(score.device)
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

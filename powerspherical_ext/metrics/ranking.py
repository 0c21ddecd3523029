"""Measures of how well a score ranks right answers above wrong ones: AUROC and risk-coverage."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._inputs import both, labels, scored

__all__ = ["RiskCoverage", "auroc", "auroc_chance_sd", "risk_coverage"]


class RiskCoverage(NamedTuple):
    """The error rate of the most confident answers, for every number of answers.

    Example:
        >>> RiskCoverage(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.5]), 0.25, 0.25).aurc
        0.25

    Source:
        Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
        Classifiers", ICLR 2019.
    """

    coverage: Tensor
    """k/N for k = 1 .. N, shape (N,)."""
    risk: Tensor
    """Error rate among the k most confident, shape (N,)."""
    aurc: float
    """Area under the curve, which is the mean of the risks."""
    optimal_aurc: float
    """The AURC of a score that ranks every error last."""


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

    Source:
        Mann and Whitney, "On a test of whether one of two random variables is stochastically larger
        than the other", 1947.
    """
    score, correct = scored(score, correct)
    right, wrong = both(correct)
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
    right, wrong = both(labels(correct))
    return math.sqrt((right + wrong + 1) / (12 * right * wrong))


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
    score, correct = scored(score, correct)
    wrong = (~correct).to(torch.float64)
    _, group, size = torch.unique(-score, return_inverse=True, return_counts=True)
    rate = torch.zeros_like(size, dtype=torch.float64).scatter_add_(0, group, wrong) / size
    risk = _running_mean(rate.repeat_interleave(size))
    optimal = _running_mean(wrong.sort().values)
    coverage = torch.arange(1, len(score) + 1, device=score.device).to(torch.float64) / len(score)
    return RiskCoverage(coverage, risk, risk.mean().item(), optimal.mean().item())


def _mean_ranks(score: Tensor) -> Tensor:
    """The ranks from 1, (N,); tied scores have their mean rank."""
    _, group, size = torch.unique(score, return_inverse=True, return_counts=True)
    last = size.cumsum(0).to(torch.float64)
    ranks: Tensor = (last - (size - 1) / 2)[group]
    return ranks


def _running_mean(x: Tensor) -> Tensor:
    return x.cumsum(0) / torch.arange(1, len(x) + 1, device=x.device)

"""Selective prediction: the error rate if the least confident answers are withheld."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._inputs import scored

__all__ = ["RiskCoverage", "augrc", "coverage_at_risk", "risk_at_coverage", "risk_coverage"]


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


def augrc(score: Any, correct: Any) -> float:
    r"""The area under the generalised risk-coverage curve.

    The generalised risk of k answers is the share of all N samples that are among the k most
    confident and wrong. In contrast to the risk, it does not divide by k, so that the few most
    confident samples do not dominate the area.

    .. code-block:: text

        G(k)  = errors among the k highest scores / N,   G(0) = 0
        AUGRC = sum over k = 1 .. N of (G(k - 1) + G(k)) / (2 N)
              = (1 - AUROC) a (1 - a) + (1 - a)^2 / 2,   a the accuracy

    It is from 0, for no error, to 1/2, and lower is better. A random score has (1 - a)/2. Errors
    within tied scores are spread evenly, as in :func:`risk_coverage`.

    Args:
        score: (N,), higher is more confident.
        correct: (N,), booleans or 0 and 1; all right and all wrong are allowed.

    Raises:
        ValueError: as :func:`risk_coverage`.

    Example:
        >>> augrc([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
        0.1875

    Source:
        Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification
        Systems", NeurIPS 2024, equations 5 and 6.
    """
    curve = risk_coverage(score, correct)
    generalised = curve.risk * curve.coverage
    return ((generalised.sum() - generalised[-1] / 2) / len(generalised)).item()


def coverage_at_risk(score: Any, correct: Any, risk: float) -> float:
    r"""The largest share of samples that can be answered with an error rate of at most ``risk``.

    .. code-block:: text

        max{ k/N : errors among the k highest scores / k <= risk },  or 0 without such a k

    A threshold cannot separate tied scores, so k ends where a score ends.

    Args:
        score: (N,), higher is more confident.
        correct: (N,), booleans or 0 and 1.
        risk: the error rate to keep, from 0 to 1.

    Raises:
        ValueError: as :func:`risk_coverage`, or a ``risk`` outside of [0, 1].

    Example:
        >>> coverage_at_risk([0.9, 0.8, 0.7, 0.6], [True, False, True, False], risk=0.4)
        0.75

    Source:
        Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.
    """
    if not 0 <= risk <= 1:
        raise ValueError(f"risk must be from 0 to 1, got {risk}")
    curve = risk_coverage(score, correct)
    # A rounding of the mean must not exclude a risk that is equal to the bound.
    possible = _ends_of_scores(score) & (curve.risk <= risk * (1 + 1e-12))
    return float(curve.coverage[possible].max()) if bool(possible.any()) else 0.0


def risk_at_coverage(score: Any, correct: Any, coverage: float) -> float:
    r"""The error rate among the most confident share ``coverage`` of the samples.

    .. code-block:: text

        errors among the k highest scores / k,   k = ceil(coverage N)

    Errors within tied scores are spread evenly, as in :func:`risk_coverage`.

    Args:
        score: (N,), higher is more confident.
        correct: (N,), booleans or 0 and 1.
        coverage: the share to answer, above 0 and at most 1.

    Raises:
        ValueError: as :func:`risk_coverage`, or a ``coverage`` outside of its range.

    Example:
        >>> risk_at_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, False], coverage=0.5)
        0.5

    Source:
        Geifman and El-Yaniv 2017.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must be above 0 and at most 1, got {coverage}")
    risk = risk_coverage(score, correct).risk
    return risk[max(1, math.ceil(coverage * len(risk) - 1e-9)) - 1].item()


def _ends_of_scores(score: Any) -> Tensor:
    """Of the samples from the highest score on: is the next score lower? Booleans, (N,)."""
    ordered = torch.as_tensor(score).detach().sort(descending=True).values
    last = torch.ones(1, dtype=torch.bool, device=ordered.device)
    return torch.cat([ordered[1:] < ordered[:-1], last])


def _running_mean(x: Tensor) -> Tensor:
    return x.cumsum(0) / torch.arange(1, len(x) + 1, device=x.device)

"""How well a score ranks right answers above wrong ones, and known inputs above unknown ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._inputs import both, labels, scored, vector

__all__ = ["auroc", "auroc_chance_sd", "fpr_at_tpr", "known_and_unknown", "mean_ranks", "ood_auroc"]


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
    rank_sum = mean_ranks(score)[correct].sum().item()
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


def ood_auroc(score_in: Any, score_out: Any) -> float:
    r"""The probability that a sample of the known distribution has a higher score than another.

    This is :func:`auroc` of the scores of both sets, where those of the known distribution are
    right.

    Args:
        score_in: (N,), scores of samples in distribution; higher is more confident.
        score_out: (M,), scores of samples out of distribution.

    Raises:
        ValueError: a set without samples, a NaN, or another shape.

    Example:
        >>> ood_auroc([3.0, 2.0, 4.0], [1.0, 2.5])
        0.8333333333333334

    Source:
        Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
        Examples in Neural Networks", ICLR 2017. Kirchhof et al. 2023 call it ``auroc_ood``.
    """
    return auroc(*known_and_unknown(score_in, score_out))


def known_and_unknown(score_in: Any, score_out: Any) -> tuple[Tensor, Tensor]:
    """The scores of both sets, and which of them are in distribution, both (N + M,)."""
    inside, outside = vector(score_in, "score_in"), vector(score_out, "score_out")
    if len(inside) == 0 or len(outside) == 0:
        raise ValueError(
            "score_in and score_out must hold one sample or more each, got "
            f"{len(inside)} and {len(outside)}"
        )
    known = torch.arange(len(inside) + len(outside), device=inside.device) < len(inside)
    return torch.cat([inside, outside.to(inside.device)]), known


def fpr_at_tpr(score: Any, correct: Any, tpr: float = 0.95) -> float:
    r"""The share of wrong answers that a threshold accepts if it accepts ``tpr`` of the right ones.

    .. code-block:: text

        FPR = #(wrong with score >= s) / n_w,
        s   = the highest threshold with #(right with score >= s) / n_r >= tpr

    Args:
        score: (N,), higher is more confident.
        correct: (N,), booleans or 0 and 1. For the detection of inputs out of distribution, those
            in distribution are the right ones.
        tpr: the share of right answers to accept, above 0 and at most 1; 0.95 gives the usual
            FPR at 95 % TPR ("FPR95").

    Raises:
        ValueError: as :func:`auroc`, or a ``tpr`` outside of its range.

    Example:
        >>> fpr_at_tpr([5.0, 4.0, 3.0, 2.0], [True, False, True, False])
        0.5

    Source:
        Liang, Li and Srikant, "Enhancing the Reliability of Out-of-distribution Image Detection in
        Neural Networks", ICLR 2018.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be above 0 and at most 1, got {tpr}")
    score, correct = scored(score, correct)
    right, wrong = both(correct)
    accepted = min(right, math.ceil(tpr * right - 1e-9))  # 0.95 * 20 is 19, whatever it rounds to
    threshold = score[correct].sort(descending=True).values[accepted - 1]
    return int((score[~correct] >= threshold).sum()) / wrong


def mean_ranks(score: Tensor) -> Tensor:
    """The ranks from 1, (N,); tied scores have their mean rank."""
    _, group, size = torch.unique(score, return_inverse=True, return_counts=True)
    last = size.cumsum(0).to(torch.float64)
    ranks: Tensor = (last - (size - 1) / 2)[group]
    return ranks

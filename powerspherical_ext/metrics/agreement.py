"""Agreement of a score with what is known about an image: how much of it is seen, and how people
label it."""

from __future__ import annotations

from typing import Any

import torch

from ._inputs import vector
from .ranking import mean_ranks

__all__ = ["cropped_has_bigger_uncertainty", "entropy_correlation", "rank_correlation"]


def cropped_has_bigger_uncertainty(score: Any, score_cropped: Any) -> float:
    r"""The share of images whose cropped version has a lower score than the whole image.

    The two scores of an image are compared with each other, so that images that are difficult in
    themselves do not matter. Chance is 0.5.

    Args:
        score: (N,), of the whole images; higher is more confident.
        score_cropped: (N,), of a crop of each.

    Raises:
        ValueError: lengths that differ, no sample, or a NaN.

    Example:
        >>> cropped_has_bigger_uncertainty([5.0, 4.0, 3.0, 2.0], [4.0, 3.0, 2.0, 2.0])
        0.75

    Source:
        Kirchhof et al. 2023, who call it ``croppedHasBiggerUnc``. Equal scores do not count there,
        nor here.
    """
    whole, cropped = vector(score, "score"), vector(score_cropped, "score_cropped")
    if whole.shape != cropped.shape or len(whole) == 0:
        raise ValueError(
            f"score and score_cropped must have the same shape (N,) with N >= 1, got "
            f"{tuple(whole.shape)} and {tuple(cropped.shape)}"
        )
    return (cropped.to(whole.device) < whole).double().mean().item()


def rank_correlation(x: Any, y: Any) -> float:
    r"""Spearman's correlation: Pearson's correlation of the ranks, where ties have their mean rank.

    It equals ``scipy.stats.spearmanr``, and runs on the device of x.

    Args:
        x, y: (N,), N >= 2, neither of them constant.

    Raises:
        ValueError: lengths that differ, a NaN, or a constant, whose ranks do not vary.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
        0.5

    Source:
        Spearman, "The proof and measurement of association between two things", 1904.
    """
    x, y = vector(x, "x"), vector(y, "y")
    if x.shape != y.shape or len(x) < 2:
        raise ValueError(
            f"x and y must have the same shape (N,) with N >= 2, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    for name, values in (("x", x), ("y", y)):
        if values.min() == values.max():
            raise ValueError(f"{name} must not be constant, got {values[0].item()} for all")
    a, b = mean_ranks(x), mean_ranks(y).to(x.device)
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / ((a @ a) * (b @ b)).sqrt())


def entropy_correlation(score: Any, soft_labels: Any) -> float:
    r"""Spearman's correlation of the uncertainty, minus the score, and the entropy of soft labels.

    .. code-block:: text

        entropy_n = - sum_c p_nc log p_nc,   p_n the row n of soft_labels, divided by its sum

    Args:
        score: (N,), higher is more confident.
        soft_labels: (N, C), how often people gave an image each of C labels, or its probabilities.

    Raises:
        ValueError: shapes that do not fit, a NaN, a negative label, a row of zeros, or entropies
            or scores that are all the same.

    Example:
        >>> entropy_correlation([9.0, 5.0, 1.0], [[10, 0], [9, 1], [5, 5]])
        1.0

    Source:
        Kirchhof et al. 2023, who call it ``rcorr_entropy``.
    """
    score = vector(score, "score")
    labels = torch.as_tensor(soft_labels).detach().to(score.device, torch.float64)
    if labels.ndim != 2 or len(labels) != len(score):
        raise ValueError(
            f"soft_labels must have shape ({len(score)}, C), got {tuple(labels.shape)}"
        )
    total = labels.sum(-1, keepdim=True)
    if not bool(((labels >= 0).all() & (total > 0).all()) & labels.isfinite().all()):
        raise ValueError("soft_labels must be finite and not negative, with a positive sum in rows")
    p = labels / total
    return rank_correlation(-score, -torch.xlogy(p, p).sum(-1))

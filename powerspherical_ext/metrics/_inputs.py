"""The checks and conversions of the arguments of all metrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["both", "labels", "scored", "vector"]


def scored(score: Any, correct: Any) -> tuple[Tensor, Tensor]:
    """The scores in float64 and the labels as booleans, both (N,)."""
    score = vector(score, "score")
    correct = labels(correct).to(score.device)
    if score.shape != correct.shape:
        raise ValueError(
            f"correct must have the shape {tuple(score.shape)} of score, got {tuple(correct.shape)}"
        )
    if len(score) == 0:
        raise ValueError("score must hold one sample or more, got none")
    return score, correct


def vector(x: Any, name: str) -> Tensor:
    x = torch.as_tensor(x).detach()
    if x.ndim != 1 or x.is_complex():
        raise ValueError(f"{name} must be real numbers of shape (N,), got {tuple(x.shape)}")
    x = x.to(torch.float64)
    if bool(x.isnan().any()):
        raise ValueError(f"{name} must not be NaN")
    result: Tensor = x
    return result


def labels(correct: Any) -> Tensor:
    correct = torch.as_tensor(correct).detach()
    if correct.ndim != 1 or not bool(((correct == 0) | (correct == 1)).all()):
        raise ValueError(
            "correct must be booleans, or 0 and 1, of shape (N,), got "
            f"{correct.dtype} of shape {tuple(correct.shape)}"
        )
    result: Tensor = correct.bool()
    return result


def both(correct: Tensor) -> tuple[int, int]:
    """The numbers of right and of wrong answers, both at least one."""
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        raise ValueError(
            f"correct must hold right and wrong answers, got {right} right and {wrong} wrong"
        )
    return right, wrong

"""The argument ``reduction`` of a loss."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_reduction", "reduce"]

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raises a ValueError if the name is unknown."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the losses, or with ``"none"`` the losses themselves."""
    check_reduction(reduction)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()

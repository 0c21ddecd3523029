"""What a test returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["HypothesisTest", "check_simulations"]


class HypothesisTest(NamedTuple):
    """A statistic, large if the hypothesis does not hold, and its p-value.

    Example:
        >>> import torch
        >>> HypothesisTest(torch.tensor(9.2), torch.tensor(0.03)).p_value
        tensor(0.0300)
    """

    statistic: Tensor
    """The statistic, shape (...)."""
    p_value: Tensor
    """The probability of a statistic as large, if the hypothesis holds, shape (...)."""


def check_simulations(n_simulations: int | None) -> None:
    if n_simulations is not None and n_simulations < 1:
        raise ValueError(f"n_simulations must be at least 1, got {n_simulations}")

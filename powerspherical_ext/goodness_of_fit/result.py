"""What a test returns, and how it counts simulations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["HypothesisTest", "check_simulations", "simulated_p_value"]


class HypothesisTest(NamedTuple):
    """A statistic, large if the hypothesis does not hold, and its p-value.

    Example:
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


def simulated_p_value(statistic: Tensor, null: Tensor) -> Tensor:
    """(1 + number of simulations as large) / (1 + number of simulations).

    Args:
        statistic: (...).
        null: (n_simulations,) for all, or (n_simulations, ...) for each.
    """
    null = null.reshape(*null.shape, *[1] * (1 + statistic.ndim - null.ndim))
    reached = statistic - 1e-12 * statistic.abs().clamp(min=1)  # equal up to rounding is as large
    p = (1 + (null >= reached).sum(0, dtype=statistic.dtype)) / (1 + len(null))
    return torch.where(statistic.isnan(), statistic, p)

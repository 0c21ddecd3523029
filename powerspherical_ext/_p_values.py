"""The p-value of a statistic of which simulations, or permutations, show the distribution."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["simulated_p_value"]


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

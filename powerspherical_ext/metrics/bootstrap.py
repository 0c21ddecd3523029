"""Confidence intervals by resampling, for every measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["ConfidenceInterval", "bootstrap"]


class ConfidenceInterval(NamedTuple):
    """A statistic of a sample, and the interval of its values over resamples.

    Example:
        >>> print(ConfidenceInterval(0.75, 0.71, 0.79, torch.tensor([0.7, 0.8])))
        0.750 [0.710, 0.790]
    """

    estimate: float
    """The statistic of the data."""
    low: float
    """The lower end of the interval."""
    high: float
    """The upper end of the interval."""
    values: Tensor
    """The statistic of each resample, shape (n_resamples,)."""

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[..., float | Tensor],
    *data: Any,
    level: float = 0.95,
    n_resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> ConfidenceInterval:
    r"""The percentile interval of a statistic: its quantiles over samples drawn with replacement.

    .. code-block:: text

        [low, high] = quantiles (1 - level)/2 and (1 + level)/2 of statistic(data[index]),
        index = N draws from 0 .. N - 1, the same for all arrays

    The interval covers the true value with a probability that tends to ``level`` for large N. A
    measure of pairs of samples, such as the nearest neighbour of :func:`recall_at_1`, must be
    computed before: a resample contains a sample beside its own copy.

    Args:
        statistic: a function of the arrays that returns a number, such as :func:`auroc`.
        data: arrays of N samples along the first dimension.
        level: the probability to cover, above 0 and below 1.
        n_resamples: number of resamples.
        generator: draws the indices, on the device of the first array; default: torch's own.

    Raises:
        ValueError: no data, lengths that differ, a level outside of its range, or fewer than one
            resample. A resample of which the statistic is not defined (for :func:`auroc`, one
            without a wrong answer) is drawn again, up to 100 times ``n_resamples``.

    Example:
        >>> from powerspherical_ext.metrics import auroc
        >>> score, correct = torch.arange(200.0), torch.arange(200) % 3 > 0
        >>> interval = bootstrap(auroc, score, correct, generator=torch.Generator().manual_seed(0))
        >>> interval.low < auroc(score, correct) < interval.high
        True

    Source:
        Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    arrays = [torch.as_tensor(x).detach() for x in data]
    lengths = [len(x) if x.ndim else 0 for x in arrays]
    if not arrays or min(lengths) < 1 or min(lengths) != max(lengths):
        raise ValueError(f"data must be arrays of the same length, one or more, got {lengths}")
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    n, device = lengths[0], arrays[0].device
    estimate = float(statistic(*arrays))
    values: list[float] = []
    for _ in range(100 * n_resamples):
        index = torch.randint(n, (n,), generator=generator, device=device)
        try:
            value = float(statistic(*(x[index.to(x.device)] for x in arrays)))
        except ValueError:
            continue
        if not math.isnan(value):
            values.append(value)
        if len(values) == n_resamples:
            break
    else:
        raise ValueError("data must allow resamples of which the statistic is defined, got too few")
    drawn = torch.tensor(values, dtype=torch.float64)
    low, high = drawn.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2]).double()).tolist()
    return ConfidenceInterval(estimate, low, high, drawn)

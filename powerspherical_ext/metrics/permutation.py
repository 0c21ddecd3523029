"""A permutation test of independence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._p_values import simulated_p_value

__all__ = ["PermutationTest", "permutation_test"]


class PermutationTest(NamedTuple):
    """A statistic of (x, y), and its distribution if x and y are independent.

    Example:
        >>> PermutationTest(0.9, 0.01, torch.tensor([0.4, 0.6])).p_value
        0.01

    Source:
        Nakamura, Okada and Taniguchi 2023, Appendix J.
    """

    statistic: float
    """The statistic of the data."""
    p_value: float
    """The fraction of permutations that reach the statistic; the data count as one of them."""
    null: Tensor
    """The statistic of each permutation, shape (n_shuffles,)."""


def permutation_test(
    statistic: Callable[[Tensor, Tensor], float | Tensor],
    x: Any,
    y: Any,
    *,
    n_shuffles: int = 1000,
    alternative: str = "greater",
    generator: torch.Generator | None = None,
) -> PermutationTest:
    r"""Test of independence: how often does a permuted y reach the statistic of (x, y)?

    .. code-block:: text

        p = (1 + number of permutations at least as extreme) / (1 + n_shuffles)

    p is never 0. If x and y are independent, it is at most 0.01 in one of a hundred tests.

    Args:
        statistic: a function of (x, y) that returns a number: :func:`auroc`, the slope of
            :func:`logistic_regression`, or a correlation.
        x, y: (N,), or any tensors with N samples along the first dimension; y is permuted.
        n_shuffles: number of permutations.
        alternative: which statistics are as extreme: ``"greater"`` ones, ``"less"``, or with
            ``"two-sided"`` those as far from the mean over the permutations.
        generator: draws the permutations, on the device of y; default: torch's own.

    Raises:
        ValueError: lengths that differ, fewer than one permutation, an unknown alternative, or a
            statistic that is NaN.

    Example:
        >>> from powerspherical_ext.metrics import auroc
        >>> generator = torch.Generator().manual_seed(0)
        >>> correct = torch.arange(40) >= 20
        >>> test = permutation_test(auroc, torch.arange(40.0), correct, generator=generator)
        >>> print(f"{test.statistic:.1f} {test.p_value:.4f}")
        1.0 0.0010

    Source:
        Nakamura, Okada and Taniguchi 2023, Appendix J.
    """
    x, y = torch.as_tensor(x).detach(), torch.as_tensor(y).detach()
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            "x and y must hold the same number of samples, two or more, got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if n_shuffles < 1:
        raise ValueError(f"n_shuffles must be at least 1, got {n_shuffles}")
    if alternative not in ("greater", "less", "two-sided"):
        raise ValueError(
            f"alternative must be 'greater', 'less' or 'two-sided', got {alternative!r}"
        )
    observed = float(statistic(x, y))
    values = []
    for _ in range(n_shuffles):
        order = torch.randperm(len(y), generator=generator, device=y.device)
        values.append(float(statistic(x, y[order])))
    null = torch.tensor(values, dtype=torch.float64)
    if math.isnan(observed) or bool(null.isnan().any()):
        raise ValueError("statistic must be a number, got NaN")
    extreme, reached = null, observed
    if alternative == "less":
        extreme, reached = -null, -observed
    elif alternative == "two-sided":
        centre = null.mean().item()
        extreme, reached = (null - centre).abs(), abs(observed - centre)
    p_value = simulated_p_value(torch.tensor(reached, dtype=torch.float64), extreme)
    return PermutationTest(observed, p_value.item(), null)

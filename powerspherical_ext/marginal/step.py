"""A step from one point u = log(cos2/sin2) to another, u + h: how the density of u changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..reference.stirling import x_minus_log1p

__all__ = ["Step", "density_change"]


class Step(NamedTuple):
    """What a family may need of a step, in terms that do not cancel."""

    sin2_excess: Tensor  # r - 1 - log r >= 0 for r = sin2_end / sin2
    cos2_excess: Tensor  # r - 1 - log r >= 0 for r = cos2_end / cos2


def density_change(
    d: int,
    sin2: Tensor,
    cos2: Tensor,
    h: Tensor,
    log_prob_ratio_dt: Tensor | float,
    difference: Callable[[Step], Tensor] | None,
) -> Tensor:
    """log g(u + h) - log g(u), where g is proportional to p (sin2 cos2)^b.

    ``log_prob_ratio_dt`` is taken at u. ``difference`` is log p(u + h) - log p(u) -
    log_prob_ratio_dt (t_end - t): what remains of the change of log p when the part linear in t is
    taken out; None stands for 0. With m(x) = x - log1p(x) the change is

        S (e^h - 1) sin2_end/sin2 - b [m(sin2_end/sin2 - 1) + m(cos2_end/cos2 - 1)] + difference,
        S = d/du log g = b (sin2 - cos2) + 2 sin2 cos2 log_prob_ratio_dt.

    It is exact, since the parts linear in t make up the first term. For h away from the mode no
    term is positive if the difference is not.
    """
    b = (d - 1) / 2
    slope = b * (sin2 - cos2) + 2 * sin2 * cos2 * log_prob_ratio_dt
    growth, decay = h.expm1(), (-h).expm1()
    sin2_inverse = sin2 + cos2 * h.exp()  # sin2 / sin2_end
    cos2_inverse = cos2 + sin2 * (-h).exp()  # cos2 / cos2_end
    step = Step(_excess(cos2 * growth, sin2_inverse), _excess(sin2 * decay, cos2_inverse))
    change = slope * (growth / sin2_inverse) - b * (step.sin2_excess + step.cos2_excess)
    return change if difference is None else change + difference(step)


def _excess(x: Tensor, inverse: Tensor) -> Tensor:
    """m(r - 1) = r - 1 - log r for r = 1/inverse, inverse = 1 + x; by the series of m near 1."""
    change = -x / inverse
    near = change.abs() < 0.4
    return torch.where(
        near, x_minus_log1p(torch.where(near, change, 0.0)), 1 / inverse - 1 + inverse.log()
    )

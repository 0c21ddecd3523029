"""How the density of u = log(cos2/sin2) changes over a step h, for a log p that is linear in t."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference.stirling import x_minus_log1p

__all__ = ["linear_log_ratio"]


def linear_log_ratio(
    b: float, sin2: Tensor, cos2: Tensor, slope: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """log g(u + h) - log g(u) for log g = b log(sin2 cos2) + a multiple of t + a constant.

    With r = cos2_end/cos2, w = sin2_end/sin2 and m(x) = x - log1p(x), it is

        slope (r - 1)/sin2 - b [m(r - 1) + m(w - 1)],    slope = d/du log g at u,

    which is exact, since the parts linear in cos2_end - cos2 make up the first term. For h away
    from the mode no term is positive, so that nothing cancels.

    The second result is m(r - 1) = r - 1 - log r, the part of -log r that is not linear.
    """
    growth, decay = h.expm1(), (-h).expm1()
    sin2_inverse = sin2 + cos2 * h.exp()  # sin2/sin2_end
    cos2_inverse = cos2 + sin2 * (-h).exp()  # cos2/cos2_end
    sin2_excess = _excess(cos2 * growth, sin2_inverse)
    cos2_excess = _excess(sin2 * decay, cos2_inverse)
    ratio = slope * (growth / sin2_inverse) - b * (sin2_excess + cos2_excess)
    return ratio, cos2_excess


def _excess(x: Tensor, inverse: Tensor) -> Tensor:
    """m(r - 1) = r - 1 - log r for r = 1/inverse, inverse = 1 + x; by the series of m near 1."""
    change = -x / inverse
    near = change.abs() < 0.4
    return torch.where(
        near, x_minus_log1p(torch.where(near, change, 0.0)), 1 / inverse - 1 + inverse.log()
    )

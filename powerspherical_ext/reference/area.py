"""The surface area of the sphere, which normalises the uniform distribution."""

from __future__ import annotations

import math

__all__ = ["log_area"]


def log_area(d: int) -> float:
    """Log surface area of the sphere S^{d-1}, log(2 pi^{d/2} / Gamma(d/2))."""
    d = int(d)  # torch.jit.trace gives a tensor, whose arithmetic would be in float32
    if d < 300:  # the terms of the other form cancel, most of all near d = 20
        return math.log(2 * math.pi ** (d / 2) / math.gamma(d / 2))
    return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)

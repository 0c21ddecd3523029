"""The surface area of the sphere, which normalises the uniform distribution."""

from __future__ import annotations

import math

__all__ = ["log_area"]


_PI = (21053343141, 6701487259)  # a continued fraction, to 1e-21


def log_area(d: int) -> float:
    """Log surface area of the sphere S^{d-1}, log(2 pi^{d/2} / Gamma(d/2)).

    Below d = 300 the area is a fraction of integers, since Gamma(n) = (n - 1)! and
    Gamma(n + 1/2) = sqrt(pi) (2 n - 1)!!/2^n. So the logarithm is right where the area is near 1.
    """
    d = int(d)  # torch.jit.trace gives a tensor, whose arithmetic would be in float32
    if d >= 300:
        return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
    n = d // 2
    if d % 2:
        powers_of_2, gamma = n + 1, math.prod(range(1, d - 1, 2))
    else:
        powers_of_2, gamma = 1, math.factorial(n - 1)
    area, one = 2**powers_of_2 * _PI[0] ** n, gamma * _PI[1] ** n
    return math.log1p((area - one) / one) if one < 2 * area else math.log(area / one)

"""Gauss-Legendre quadrature."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor


def gauss_legendre(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The n nodes and weights on [0, 1], ascending, in the dtype and on the device of ``like``."""
    nodes, weights = _gauss_legendre(n)
    return (
        torch.tensor(nodes, dtype=like.dtype, device=like.device),
        torch.tensor(weights, dtype=like.dtype, device=like.device),
    )


@cache
def _gauss_legendre(n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Zeros x of P_n by Newton from cos(pi (i + 3/4)/(n + 1/2)); weights 1/((1 - x^2) P_n'(x)^2)."""
    nodes, weights = [], []
    for i in range(n):
        x = -math.cos(math.pi * (i + 0.75) / (n + 0.5))
        for _ in range(6):
            previous, value = 1.0, x
            for k in range(2, n + 1):
                previous, value = value, ((2 * k - 1) * x * value - (k - 1) * previous) / k
            slope = n * (previous - x * value) / (1 - x * x)
            x -= value / slope
        nodes.append((1 + x) / 2)
        weights.append(1 / ((1 - x * x) * slope * slope))
    return tuple(nodes), tuple(weights)

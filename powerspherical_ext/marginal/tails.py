"""Tails of the density of u = log(cos2/sin2), for any family.

With sin2 = (1 - t)/2, cos2 = (1 + t)/2 and b = (d - 1)/2, the density of u,

    g(u) = p(mu) area(S^{d-2}) exp(log_prob_ratio) (4 sin2 cos2)^b / 2,

has one mode. A tail is a Gauss-Legendre sum over u, from the point asked for to where the density
has dropped by e^-DROP, in terms of the ratio of the density to that at the starting point, whose
logarithm has no large terms that cancel. The mass of both sides of the mode, by the same rule,
takes the place of the normaliser, so that rounding does not grow with d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._tensors import ROWS, by_rows
from ..families import Family
from ..reference.quadrature import GAUSS_LEGENDRE

__all__ = ["DROP", "Density", "integral", "masses", "mode_of", "move", "tail_quantile"]

# By the dtype of the result. The nodes reach the error left by DROP on the longest interval, d = 2.
DROP = {torch.float32: 21.0, torch.float64: 38.0}
_NODES = {torch.float32: 32, torch.float64: 64}
_AT_ONCE = 2**18  # elements: larger inputs take the nodes in groups of this size, at least 4
_BISECTIONS = 10  # of log width, over a factor 1e-9: to 2 %
_LONGEST = {torch.float32: 80.0, torch.float64: 500.0}  # |h| whose exponential is finite
_NEWTON = 4  # steps with the float32 rule; for a float64 result two more with its own


def integral(f: Callable[[Tensor], Tensor], end: Tensor, b: float, dtype: torch.dtype) -> Tensor:
    """The integral of f(h) (..., nodes) for h between 0 and ``end``, to the accuracy of ``dtype``.

    On two panels for d = 2, whose tails, as e^(-|u|/2), reach far beyond a concentrated bulk: on
    one, the error was up to 1e-8.
    """
    nodes, weights = (end.new_tensor(column) for column in GAUSS_LEGENDRE[_NODES[dtype]])
    if b == 0.5:
        nodes = torch.cat([0.5 * nodes, 0.5 + 0.5 * nodes])
        weights = torch.cat([0.5 * weights, 0.5 * weights])
    total = torch.zeros_like(end)
    group = min(max(_AT_ONCE // max(end.numel(), 1), 4), len(nodes))
    for node, weight in zip(nodes.split(group), weights.split(group), strict=True):
        total = total + (f(end.unsqueeze(-1) * node) * weight).sum(-1)
    return end.abs() * total


def move(sin2: Tensor, cos2: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """sin2 and cos2 at u + h."""
    return sin2 / (sin2 + cos2 * h.exp()), cos2 / (cos2 + sin2 * (-h).exp())


class Density(NamedTuple):
    """log g(u + h) - log g(u) for the density of u of a family, anchored at sin2, cos2."""

    family: Family
    kappa: Tensor
    d: int
    sin2: Tensor
    cos2: Tensor

    @property
    def b(self) -> float:
        return (self.d - 1) / 2

    def slope(self) -> Tensor:
        """d/du log g at the anchor."""
        return self.family.marginal.log_density_slope(self.kappa, self.d, self.sin2, self.cos2)

    def log_ratio(self, h: Tensor, slope: Tensor) -> Tensor:
        kappa, sin2, cos2 = self.kappa, self.sin2, self.cos2
        if h.dim() > sin2.dim():
            sin2, cos2, slope = sin2.unsqueeze(-1), cos2.unsqueeze(-1), slope.unsqueeze(-1)
        if h.dim() > kappa.dim():
            kappa = kappa.unsqueeze(-1)
        return self.family.marginal.log_density_ratio(kappa, self.d, sin2, cos2, slope, h)

    def width(self, sign: Tensor, drop: Tensor | float) -> Tensor:
        """w > 0 with log_ratio(sign w) = -drop, to 2 % from above, by bisection of log w.

        The slope is at least b but for the family's reach, and for a length of about 2 at the mode.
        """
        slope = self.slope()
        reach = self.family.marginal.reach(self.kappa, self.d)
        upper = drop / self.b + reach + 2 + 0 * slope
        upper = upper.clamp(max=_LONGEST[upper.dtype])
        lower = 1e-9 * upper
        for _ in range(_BISECTIONS):
            middle = (lower * upper).sqrt()
            beyond = self.log_ratio(sign * middle, slope) <= -drop
            lower, upper = torch.where(beyond, lower, middle), torch.where(beyond, middle, upper)
        return upper

    def tail(self, sign: Tensor, dtype: torch.dtype) -> Tensor:
        """Integral of g(u + h)/g(u) over h from 0 to infinity, or to -infinity for sign -1."""
        slope = self.slope()
        width = self.width(sign, DROP[dtype])
        return integral(lambda h: self.log_ratio(h, slope).exp(), sign * width, self.b, dtype)


def mode_of(kappa: Tensor, d: int, family: Family) -> Density:
    return Density(family, kappa, d, *family.marginal.logit_mode(kappa, d))


def masses(kappa: Tensor, d: int, family: Family, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The masses below and above the mode of u, divided by g(mode)."""
    sign = torch.ones_like(kappa)
    below, above = by_rows(
        lambda kappa, sign: mode_of(kappa, d, family).tail(sign, dtype),
        ROWS,
        torch.stack([kappa, kappa]),
        torch.stack([-sign, sign]),
    )
    return below, above


def tail_quantile(
    mode: Density, sign: Tensor, p: Tensor, mass: Tensor, dtype: torch.dtype
) -> Tensor:
    """h beyond which, on the side of that sign, whose mass is given, the mass is p.

    The tail of a log-concave density is log-concave, so that Newton's method for its logarithm
    overshoots once at most; an iterate outside the bracket seen so far is replaced by the middle.
    Start: the signed root, log g(h) - log g(0) = -x^2/2, x the normal quantile of p/mass.
    """
    slope = mode.slope()
    x = torch.special.ndtri((0.5 * p / mass).clamp(max=0.5))
    r = mode.width(sign, 0.5 * x * x)
    inner, outer = torch.zeros_like(r), 2 * r + mode.width(sign, 0.5 * x * x + 10)
    outer = outer.clamp(max=_LONGEST[outer.dtype])

    def newton(r: Tensor, rule: torch.dtype) -> tuple[Tensor, Tensor]:
        sin2, cos2 = move(mode.sin2, mode.cos2, sign * r)
        tail = Density(mode.family, mode.kappa, mode.d, sin2, cos2).tail(sign, rule)
        excess = mode.log_ratio(sign * r, slope) + (tail / p).log()
        return excess, r + excess * tail

    for _ in range(_NEWTON):
        excess, step = newton(r, torch.float32)
        inner, outer = torch.where(excess > 0, r, inner), torch.where(excess > 0, outer, r)
        r = torch.where((step >= inner) & (step <= outer), step, 0.5 * (inner + outer))
    for _ in range(2 if dtype == torch.float64 else 0):
        r = newton(r, dtype)[1].clamp(0, _LONGEST[r.dtype])
    return sign * r

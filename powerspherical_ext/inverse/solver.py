"""Newton's method inside a bracket, in a variable that resolves both ends of the domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Domain", "Excess"]

# An increasing function of kappa, and its derivative
Excess = Callable[[Tensor], tuple[Tensor, Tensor]]


class Domain(NamedTuple):
    """Concentrations from 0 to ``last``, and the variable

        s = log1p(kappa/scale) - log1p(-kappa/upper_bound).

    It is kappa/scale near 0, log kappa beyond the scale, and -log(1 - kappa) near a bound of 1.
    """

    scale: float
    upper_bound: float
    last: float

    def variable(self, kappa: Tensor) -> Tensor:
        return (kappa / self.scale).log1p() - (-kappa / self.upper_bound).log1p()

    def kappa(self, s: Tensor) -> Tensor:
        kappa = s.expm1() / (1 / self.scale + s.exp() / self.upper_bound)
        return kappa.clamp(max=self.last)

    def speed(self, kappa: Tensor) -> Tensor:
        """dkappa/ds."""
        share = (1 - kappa / self.upper_bound) / (1 + self.scale / self.upper_bound)
        return (self.scale + kappa) * share

    def solve(self, excess: Excess, start: Tensor, steps: int) -> Tensor:
        """kappa at which the excess is 0, from a value of the variable.

        A step that leaves the bracket seen so far is replaced by the middle. There is no test of
        convergence, so that transforms can take the steps.
        """
        lower = torch.zeros_like(start)
        upper = self.variable(torch.full_like(start, self.last))
        s = start.clamp(min=0).minimum(upper)
        for _ in range(steps):
            kappa = self.kappa(s)
            value, slope = excess(kappa)
            lower, upper = torch.where(value < 0, s, lower), torch.where(value < 0, upper, s)
            step = s - value / (slope * self.speed(kappa))
            s = torch.where((step >= lower) & (step <= upper), step, 0.5 * (lower + upper))
        return self.kappa(s)

    def polish(self, excess: Excess, kappa: Tensor, steps: int) -> Tensor:
        """Newton's method from a kappa that is nearly the solution."""
        top = self.variable(torch.full_like(kappa, self.last))
        for _ in range(steps):
            value, slope = excess(kappa)
            s = self.variable(kappa) - value / (slope * self.speed(kappa))
            kappa = self.kappa(s.clamp(min=0).minimum(top))
        return kappa

"""What the distribution of t = mu . x needs of a family beside its reference functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

__all__ = ["FamilyMarginal"]


class FamilyMarginal(Protocol):
    """What only the distribution of t needs, as a module of `powerspherical_ext.marginal`."""

    def logit_mode(self, kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """sin2 and cos2 at the mode of the density of u = log(cos2/sin2), which has one mode."""

    def log_density_slope(self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
        """d/du log g = b (sin2 - cos2) + 2 sin2 cos2 log_prob_ratio_dt, g the density of u and
        b = (d - 1)/2."""

    def log_density_ratio(
        self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor, slope: Tensor, h: Tensor
    ) -> Tensor:
        """log g(u + h) - log g(u), without terms that cancel. ``slope`` is log_density_slope."""

    def reach(self, kappa: Tensor, d: int) -> Tensor:
        """Length of the stretch of u outside of which the density of u falls like
        ``exp(-|h| (d - 1)/2)`` or faster, on the way out from any point; an upper bound will do."""

    def variances(
        self, kappa: Tensor, d: int, scalar: Callable[[str], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Var[t], and E[1 - t^2]/(d - 1), the variance in each direction orthogonal to mu.

        ``scalar(name)`` is the family's scalar function of that name at (kappa, d), by the kernels
        where there are any.
        """

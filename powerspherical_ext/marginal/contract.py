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

    def logit_density_change(
        self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor, h: Tensor
    ) -> Tensor:
        """log g(u + h) - log g(u) for the density g of u, which is at (sin2, cos2), in terms that
        do not cancel. `powerspherical_ext.marginal.step` has what most families need."""

    def reach(self, kappa: Tensor, d: int) -> Tensor:
        """Length of the stretch of u outside of which the density of u falls like
        exp(-|h| (d - 1)/2) or faster, on the way out from any point; an upper bound will do."""

    def variance_t(self, kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
        """Var[t]. ``scalar(name)`` is the family's scalar function of that name at (kappa, d), by
        the kernels where there are any."""

    def variance_orthogonal(self, kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
        """E[1 - t^2]/(d - 1), the variance in each direction orthogonal to mu."""

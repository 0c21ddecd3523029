"""What the distribution of t = mu . x needs of a family beside its reference functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["FamilyMarginal", "Step"]


class Step(NamedTuple):
    """A step from one point u = log(cos2/sin2) to another, u + h, in terms that do not cancel."""

    sin2: Tensor  # where the step starts
    cos2: Tensor
    growth: Tensor  # e^h - 1
    sin2_inverse: Tensor  # sin2 / sin2_end
    cos2_inverse: Tensor  # cos2 / cos2_end
    sin2_excess: Tensor  # r - 1 - log r >= 0 for r = sin2_end / sin2
    cos2_excess: Tensor  # r - 1 - log r >= 0 for r = cos2_end / cos2

    @property
    def sin2_end(self) -> Tensor:
        return self.sin2 / self.sin2_inverse

    @property
    def cos2_end(self) -> Tensor:
        return self.cos2 / self.cos2_inverse

    @property
    def sin2_change(self) -> Tensor:
        """sin2_end - sin2 = cos2 - cos2_end."""
        return -self.sin2 * self.cos2 * self.growth / self.sin2_inverse


class FamilyMarginal(Protocol):
    """What only the distribution of t needs, as a module of `powerspherical_ext.marginal`."""

    def logit_mode(self, kappa: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """sin2 and cos2 at the mode of the density of u = log(cos2/sin2), which has one mode."""

    def log_prob_ratio_difference(self, kappa: Tensor, d: int, step: Step) -> Tensor:
        """log p at the end of the step - log p at its start - log_prob_ratio_dt (t_end - t), which
        is what remains when the part linear in t is taken out."""

    def reach(self, kappa: Tensor, d: int) -> Tensor:
        """Length of the stretch of u outside of which the density of u falls like
        exp(-|h| (d - 1)/2) or faster, on the way out from any point; an upper bound will do."""

    def variance_t(self, kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
        """Var[t]. ``scalar(name)`` is the family's scalar function of that name at (kappa, d), by
        the kernels where there are any."""

    def variance_orthogonal(self, kappa: Tensor, d: int, scalar: Callable[[str], Tensor]) -> Tensor:
        """E[1 - t^2]/(d - 1), the variance in each direction orthogonal to mu."""

"""The contract of a rotationally symmetric family: the scalar functions that it must supply.

The density depends on x through t = mu . x alone. All functions take tensors of one dtype, float32
or float64, of shapes that broadcast, and an int d. Every function takes all arguments, whether or
not this family needs each of them:

    kappa        the concentration: a number of the domain, or NaN (`Family.inside`)
    d            the length of the vectors
    sin2, cos2   (1 - t)/2 and (1 + t)/2; the smaller of the two carries the digits

A suffix names a derivative: _dt, _dkappa, _dkappa2. The twin of this file is csrc/families.h.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .normal import ProposalNoise

__all__ = ["FamilyReference"]


class FamilyReference(Protocol):
    """The scalar functions of a family, as a module of `powerspherical_ext.reference`."""

    def log_prob_at_mode(self, kappa: Tensor, d: int) -> Tensor:
        """log p(mu)."""

    def log_prob_at_mode_dkappa(self, kappa: Tensor, d: int) -> Tensor:
        """Its derivative in kappa."""

    def log_prob_at_mode_dkappa2(self, kappa: Tensor, d: int) -> Tensor:
        """Its second derivative in kappa."""

    def log_prob_at_mode_over_uniform(self, kappa: Tensor, d: int) -> Tensor:
        """log p(mu) + log_area, the log-ratio to the uniform density. It is 0 at kappa = 0."""

    def log_prob_ratio(self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
        """log p(x) - log p(mu)."""

    def log_prob_ratio_dt(self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
        """Its derivative in t."""

    def log_prob_ratio_dkappa(self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
        """Its derivative in kappa."""

    def mean_resultant_length(self, kappa: Tensor, d: int) -> Tensor:
        """A = E[t]."""

    def mean_resultant_length_dkappa(self, kappa: Tensor, d: int) -> Tensor:
        """Its derivative in kappa."""

    def kl_uniform(self, kappa: Tensor, d: int) -> Tensor:
        """KL(p || uniform)."""

    def kl_uniform_dkappa(self, kappa: Tensor, d: int) -> Tensor:
        """Its derivative in kappa."""

    def sample(
        self, kappa: Tensor, d: int, p: Tensor, s: Tensor, noise: ProposalNoise
    ) -> tuple[Tensor, Tensor]:
        """t and r of a sample x = t mu + r g', where g' is the part of a normal vector g orthogonal
        to mu, p = g . mu and ``s = |g'|^2 / 2``. The caller divides by sqrt(t^2 + 2 s r^2)."""

    def implicit_gradient(self, kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
        """(dt/dkappa)/(1 - t^2) at a fixed quantile of t."""

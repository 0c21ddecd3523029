"""The list of families. Dispatch, the names in the losses, benchmarks and tests derive from it.

csrc/families.h holds the same list, in the same order; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from . import constraints
from .fit import Estimator
from .fit import power_spherical as power_spherical_fit
from .fit import spherical_cauchy as spherical_cauchy_fit
from .fit import von_mises_fisher as von_mises_fisher_fit
from .marginal import power_spherical as power_spherical_marginal
from .marginal import spherical_cauchy as spherical_cauchy_marginal
from .marginal import von_mises_fisher as von_mises_fisher_marginal
from .marginal.contract import FamilyMarginal
from .reference import (
    kl_power_spherical,
    kl_power_spherical_von_mises_fisher,
    kl_spherical_cauchy,
    kl_von_mises_fisher,
    likelihood_kernel_von_mises_fisher,
    power_spherical,
    spherical_cauchy,
    von_mises_fisher,
)
from .reference.contract import FamilyReference

# KL(p || q) of (kappa_p, kappa_q, d, sin2, cos2) of the half angle between the mean directions.
Divergence = Callable[[Tensor, Tensor, int, Tensor, Tensor], Tensor]

# log of the integral of p_a p_b, plus log_area, of (kappa_a, kappa_b, sin2, cos2, L), where L gives
# log_prob_at_mode_over_uniform of a kappa, by the kernels where there are any.
LikelihoodKernel = Callable[[Tensor, Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]

__all__ = ["FAMILIES", "Family", "FamilyMarginal", "FamilyReference", "family_named"]


@dataclass(frozen=True)
class Family:
    """An entry of `powerspherical_ext.families.FAMILIES`.

    Raises:
        TypeError: the reference or the marginal lacks a function that every family supplies.

    Example:
        >>> family_named("spherical_cauchy").upper_bound
        1.0
    """

    name: str
    """The ``distribution`` argument of the losses; the stem of the family's files."""
    index: int
    """Its position in FAMILIES, which is what a raw op takes."""
    reference: FamilyReference
    """The scalar functions of the family."""
    marginal: FamilyMarginal
    """What only the distribution of t needs."""
    concentration: Constraint
    """The domain of kappa, [0, upper_bound)."""
    exponential_form: bool
    """Whether log p = log p(mu) + kappa phi(t), with a phi that is the same for all d."""
    fit: Estimator | None = None
    """Maximum likelihood, where it is known."""
    kl: Mapping[str, Divergence] = field(default_factory=dict)
    """KL(this || q), by the name of q."""
    likelihood_kernel: LikelihoodKernel | None = None
    """The likelihood kernel of two members, where it is known."""

    def __post_init__(self) -> None:
        for module, protocol in (
            (self.reference, FamilyReference),
            (self.marginal, FamilyMarginal),
        ):
            missing = [
                name
                for name in vars(protocol)
                if not name.startswith("_") and not hasattr(module, name)
            ]
            if missing:
                names = ", ".join(missing)
                raise TypeError(f"family {self.name} lacks {names} of {protocol.__name__}")

    def __reduce__(self) -> tuple[Callable[[str], Family], tuple[str]]:
        """Copies and pickles of what refers to a family refer to the same one, by its name."""
        return family_named, (self.name,)

    @property
    def upper_bound(self) -> float:
        """The end of the domain of kappa, which starts at 0; upper_bound in csrc/families.h."""
        bound: float = self.concentration.upper_bound  # type: ignore[attr-defined]
        return bound

    @property
    def is_bounded(self) -> bool:
        """Whether the family itself bounds kappa, rather than the range of its functions."""
        return self.upper_bound < constraints.UPPER_BOUND

    def inside(self, kappa: Tensor) -> Tensor:
        """kappa, and NaN outside of its domain; `in_domain` of csrc/math/types.h.

        What computes in plain torch takes a concentration through this function, as kernels do
        through the other. The gradient is NaN outside as well, and -0 becomes 0.
        """
        valid = (kappa >= 0) & (kappa < self.upper_bound)
        return kappa * torch.where(valid, 1.0, torch.nan).to(kappa.dtype) + 0.0


FAMILIES: tuple[Family, ...] = (
    Family(
        name="power_spherical",
        index=0,
        reference=power_spherical,
        marginal=power_spherical_marginal,
        concentration=constraints.concentration,
        exponential_form=True,
        fit=power_spherical_fit.fit,
        kl={
            "power_spherical": kl_power_spherical.kl,
            "von_mises_fisher": kl_power_spherical_von_mises_fisher.kl_from_power_spherical,
        },
    ),
    Family(
        name="von_mises_fisher",
        index=1,
        reference=von_mises_fisher,
        marginal=von_mises_fisher_marginal,
        concentration=constraints.concentration,
        exponential_form=True,
        fit=von_mises_fisher_fit.fit,
        kl={
            "power_spherical": kl_power_spherical_von_mises_fisher.kl_from_von_mises_fisher,
            "von_mises_fisher": kl_von_mises_fisher.kl,
        },
        likelihood_kernel=likelihood_kernel_von_mises_fisher.log_kernel,
    ),
    Family(
        name="spherical_cauchy",
        index=2,
        reference=spherical_cauchy,
        marginal=spherical_cauchy_marginal,
        concentration=constraints.below_one,
        exponential_form=False,
        fit=spherical_cauchy_fit.fit,
        kl={"spherical_cauchy": kl_spherical_cauchy.kl},
    ),
)
"""All families. Their order is that of the list in the compiled kernels."""

_BY_NAME = {family.name: family for family in FAMILIES}


def family_named(name: str) -> Family:
    """The family that the ``distribution`` argument of a loss names.

    Args:
        name: ``"power_spherical"``, ``"von_mises_fisher"`` or ``"spherical_cauchy"``.

    Raises:
        ValueError: no family has this name.

    Example:
        >>> family_named("von_mises_fisher").exponential_form
        True
    """
    family = _BY_NAME.get(name)
    if family is None:
        raise ValueError(f"distribution must be one of {(*_BY_NAME,)}, got {name!r}")
    return family

"""The check that a concentration is in its family's domain, which the losses share.

The domain is [0, family.upper_bound), and the distribution is uniform at 0. Heads and losses keep
to its inside, which excludes 0.
"""

from __future__ import annotations

import math

from torch import Tensor

from .._tensors import whole
from ..families import Family

__all__ = ["check_inside"]


def check_inside(kappa: Tensor, family: Family) -> None:
    """Raises a ValueError for a kappa that is NaN, not positive, or not below the bound."""
    if not kappa.numel():
        return
    smallest, largest = (x.item() for x in whole(kappa.detach()).aminmax())
    head = "sigmoid" if family.is_bounded else "softplus, and clamp it"
    if math.isnan(smallest):
        raise ValueError(
            "kappa must be > 0 and not NaN, got nan: training may have diverged; look at the "
            "features and the parameters of the head, and try a lower learning rate or clipping"
        )
    if not smallest > 0:
        raise ValueError(
            f"kappa must be > 0 and not NaN, got {smallest}: "
            f"end the head in a {head}, as KappaHead does"
        )
    if not largest < family.upper_bound:
        raise ValueError(
            f"kappa must be < {family.upper_bound:g} for distribution={family.name!r}, got "
            f"{largest}: end the head in a {head}, as KappaHead(distribution={family.name!r}) does"
        )

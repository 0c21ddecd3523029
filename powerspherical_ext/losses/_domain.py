"""The domain of a family's concentration: what a head maps into, and what a loss checks.

The domain is [0, family.upper_bound), and the distribution is uniform at 0. Heads and losses keep
to its inside, which excludes 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..families import Family

__all__ = ["check_inside", "into_domain"]


def into_domain(s: Tensor, family: Family, scale: float = 1.0) -> Tensor:
    """Maps real numbers to the inside of the domain.

    The map is a sigmoid for a family that bounds kappa, and else ``scale`` times a softplus.
    Rounding and overflow reach neither end. softplus(s) is 0 for s < -100 in float32, sigmoid(s) is
    1 for s > 17, and s itself may be beyond the bound: the smallest normal number and the largest
    number below the bound take their place.
    """
    info, end = torch.finfo(s.dtype), family.upper_bound
    last = min(end * (1 - info.eps / 2), info.max)
    kappa = end * torch.sigmoid(s) if family.is_bounded else scale * F.softplus(s)
    return kappa.clamp(info.tiny, last)


def check_inside(kappa: Tensor, family: Family) -> None:
    """Raises a ValueError for a kappa that is NaN, not positive, or not below the bound."""
    if not kappa.numel():
        return
    smallest, largest = (x.item() for x in kappa.detach().aminmax())
    head = "sigmoid" if family.is_bounded else "softplus, and clamp it"
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

"""The domain of a family's concentration: what a head maps into, and what a loss checks.

The domain is [0, family.upper_bound), and the distribution is uniform at 0. Heads and losses keep
to its inside, which excludes 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..families import Family

__all__ = ["check_inside", "into_domain"]


def into_domain(s: Tensor, family: Family) -> Tensor:
    """Maps real numbers to the inside of the domain: by a softplus, or a sigmoid if it is bounded.

    Rounding reaches neither end. softplus(s) is 0 for s < -100 in float32, and sigmoid(s) is 1 for
    s > 17: the smallest normal number and the largest number below the bound take their place.
    """
    tiny, end = torch.finfo(s.dtype).tiny, family.upper_bound
    if end == math.inf:
        return F.softplus(s).clamp(min=tiny)
    last = end * (1 - torch.finfo(s.dtype).eps / 2)
    return (end * torch.sigmoid(s)).clamp(tiny, last)


def check_inside(kappa: Tensor, family: Family) -> None:
    """Raises a ValueError for a kappa that is NaN, not positive, or not below the bound."""
    if not kappa.numel():
        return
    smallest, end = kappa.detach().min().item(), family.upper_bound
    if not smallest > 0:
        head = "softplus" if end == math.inf else "sigmoid"
        raise ValueError(
            f"kappa must be > 0 and not NaN, got {smallest}: "
            f"end the head in a {head}, as KappaHead does"
        )
    if end < math.inf and not (largest := kappa.detach().max().item()) < end:
        raise ValueError(
            f"kappa must be < {end:g} for distribution={family.name!r}, got {largest}: end the "
            f"head in a sigmoid, as KappaHead(distribution={family.name!r}) does"
        )

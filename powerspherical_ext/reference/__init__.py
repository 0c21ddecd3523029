"""The specification in plain torch: one function per op and scalar function of csrc, same names.

It is the oracle of the tests, the path of every functorch transform and of forward-mode AD, and
what runs on a device, or on a machine without a compiler, that has no kernels.
"""

from collections.abc import Callable

from torch import Tensor

from . import kl_power_spherical, kl_von_mises_fisher, power_spherical, von_mises_fisher
from . import kl_power_spherical_von_mises_fisher as kl_mixed
from .area import log_area
from .sphere import half_angle, log_prob, rsample, rsample_backward
from .vi_simsiam import vi_simsiam_loss

# KL(p || q) of (kappa_p, kappa_q, d, sin2, cos2) of the half angle between the mean directions, by
# the names of the families of p and q. A pair that is not listed has no known divergence.
KL: dict[tuple[str, str], Callable[[Tensor, Tensor, int, Tensor, Tensor], Tensor]] = {
    ("power_spherical", "power_spherical"): kl_power_spherical.kl,
    ("power_spherical", "von_mises_fisher"): kl_mixed.kl_from_power_spherical,
    ("von_mises_fisher", "power_spherical"): kl_mixed.kl_from_von_mises_fisher,
    ("von_mises_fisher", "von_mises_fisher"): kl_von_mises_fisher.kl,
}

__all__ = [
    "KL",
    "half_angle",
    "log_area",
    "log_prob",
    "power_spherical",
    "rsample",
    "rsample_backward",
    "vi_simsiam_loss",
    "von_mises_fisher",
]

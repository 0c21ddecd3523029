"""The specification in plain torch: one function per op and scalar function of csrc, same names.

It is the oracle of the tests, the path of every functorch transform and of forward-mode AD, and
what runs on a device, or on a machine without a compiler, that has no kernels.
"""

from . import kl_power_spherical, kl_von_mises_fisher
from . import kl_power_spherical_von_mises_fisher as kl_mixed
from .area import log_area
from .sphere import (
    FAMILIES,
    POWER_SPHERICAL,
    VON_MISES_FISHER,
    half_angle,
    log_prob,
    rsample,
    rsample_backward,
    rsample_fixed_noise,
)
from .vi_simsiam import vi_simsiam_loss

# KL(p || q) of (kappa_p, kappa_q, d, y, z), by the families of p and q.
KL = {
    (POWER_SPHERICAL, POWER_SPHERICAL): kl_power_spherical.kl,
    (POWER_SPHERICAL, VON_MISES_FISHER): kl_mixed.kl_from_power_spherical,
    (VON_MISES_FISHER, POWER_SPHERICAL): kl_mixed.kl_from_von_mises_fisher,
    (VON_MISES_FISHER, VON_MISES_FISHER): kl_von_mises_fisher.kl,
}

__all__ = [
    "FAMILIES",
    "KL",
    "POWER_SPHERICAL",
    "VON_MISES_FISHER",
    "half_angle",
    "log_area",
    "log_prob",
    "rsample",
    "rsample_backward",
    "rsample_fixed_noise",
    "vi_simsiam_loss",
]

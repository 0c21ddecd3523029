"""The specification in plain torch: one function per op and scalar function of csrc, same names.

It is the oracle of the tests, the path of every functorch transform and of forward-mode AD, and
what runs on a device, or on a machine without a compiler, that has no kernels.
"""

from . import kl_power_spherical
from .sphere import (
    FAMILIES,
    POWER_SPHERICAL,
    chords,
    log_area,
    log_prob,
    rsample,
    rsample_backward,
    rsample_fixed_noise,
)

__all__ = [
    "FAMILIES",
    "POWER_SPHERICAL",
    "chords",
    "kl_power_spherical",
    "log_area",
    "log_prob",
    "rsample",
    "rsample_backward",
    "rsample_fixed_noise",
]

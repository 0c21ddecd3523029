"""The specification in plain torch: one function per op and scalar function of csrc, same names.

It is the oracle of the tests, the path of every functorch transform and of forward-mode AD, and
what runs on a device, or on a machine without a compiler, that has no kernels.
"""

from .sphere import (
    FAMILIES,
    POWER_SPHERICAL,
    chords,
    log_area,
    log_prob,
    rsample,
    rsample_backward,
)

__all__ = [
    "FAMILIES",
    "POWER_SPHERICAL",
    "chords",
    "log_area",
    "log_prob",
    "rsample",
    "rsample_backward",
]

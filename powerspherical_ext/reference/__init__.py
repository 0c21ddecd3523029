"""The specification in plain torch: one function per op and scalar function of csrc, same names.

It is the oracle of the tests, the path of every functorch transform and of forward-mode AD, and
what runs on a device, or on a machine without a compiler, that has no kernels.
"""

from .area import log_area
from .scalar_function import scalar_function
from .sphere import half_angle, log_prob, rsample, rsample_backward, sample
from .vi_simsiam import vi_simsiam_loss

__all__ = [
    "half_angle",
    "log_area",
    "log_prob",
    "rsample",
    "rsample_backward",
    "sample",
    "scalar_function",
    "vi_simsiam_loss",
]

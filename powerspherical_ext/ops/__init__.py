"""The row-wise operations: torch.library, autograd and transforms meet here.

Each file holds one op: its public function, its gradient, its shapes for tracing, and a line that
names its kernels. `_dispatch` says which way a call takes.
"""

from .._kernels import transform_active, values_are_readable
from ._dispatch import NeedsGrad, common_dtype, own_rows
from .implicit_gradient import implicit_gradient
from .kl import KlFunction, kl
from .log_prob import log_prob, log_prob_on_sphere
from .rng_state import new_rng_state
from .rsample import rsample
from .scalar_function import (
    ScalarFunction,
    entropy,
    kl_uniform,
    log_prob_at_mode,
    log_prob_at_mode_over_uniform,
    mean_resultant_length,
    scalar_function,
)
from .vi_simsiam_loss import vi_simsiam_loss

__all__ = [
    "KlFunction",
    "NeedsGrad",
    "ScalarFunction",
    "common_dtype",
    "entropy",
    "implicit_gradient",
    "kl",
    "kl_uniform",
    "log_prob",
    "log_prob_at_mode",
    "log_prob_at_mode_over_uniform",
    "log_prob_on_sphere",
    "mean_resultant_length",
    "new_rng_state",
    "own_rows",
    "rsample",
    "scalar_function",
    "transform_active",
    "values_are_readable",
    "vi_simsiam_loss",
]

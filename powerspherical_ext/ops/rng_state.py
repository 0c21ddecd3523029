"""The random state that a sampling op takes as an argument."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["new_rng_state"]

_INT64 = torch.iinfo(torch.int64)


def new_rng_state(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Seed and offset, int64 of shape (2,), drawn from torch's generator or the one given."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, got {generator!r}: take "
            "torch.Generator().manual_seed(0) for the seed 0"
        )
    # Without the keyword where it says nothing: it would double the time of this call.
    options: dict[str, Any] = {} if generator is None else {"generator": generator}
    source = device if generator is None else generator.device
    state: Tensor = torch.randint(
        _INT64.min, _INT64.max, (2,), dtype=torch.int64, device=source, **options
    )
    return state if source == device else state.to(device)

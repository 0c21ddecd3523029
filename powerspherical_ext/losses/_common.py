"""What the losses and heads share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ..reference import POWER_SPHERICAL, VON_MISES_FISHER

__all__ = ["autocast_disabled", "family_index"]

DISTRIBUTIONS = {"power_spherical": POWER_SPHERICAL, "von_mises_fisher": VON_MISES_FISHER}


def family_index(distribution: str) -> int:
    """The index in ``reference.FAMILIES`` of a loss's ``distribution`` argument."""
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution must be one of {(*DISTRIBUTIONS,)}, got {distribution!r}")
    return DISTRIBUTIONS[distribution]


def autocast_disabled(device: torch.device) -> AbstractContextManager[object]:
    """Tensors keep their own precision inside, on every device (``meta`` has no autocast)."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(
        device.type
    ):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)

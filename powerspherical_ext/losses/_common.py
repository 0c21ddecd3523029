"""What the losses and heads share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ..families import Family, family_named

__all__ = ["autocast_disabled", "family_index"]


def family_index(distribution: str) -> Family:
    """The family of a loss's ``distribution`` argument."""
    return family_named(distribution)


def autocast_disabled(device: torch.device) -> AbstractContextManager[object]:
    """Tensors keep their own precision inside, on every device (``meta`` has no autocast)."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(
        device.type
    ):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)

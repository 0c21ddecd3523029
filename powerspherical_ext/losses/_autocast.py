"""A switch for autocast: the losses choose their own precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["autocast_disabled"]


def autocast_disabled(device: torch.device) -> AbstractContextManager[object]:
    """Inside this context operations keep the precision of their tensors, on every device.

    The ``meta`` device has no autocast, and needs no switch. (torch.compile of torch 2.10 cannot
    read torch.amp.is_autocast_available, which would tell.)
    """
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)

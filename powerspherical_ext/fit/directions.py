"""Mean directions: their length, and where to start where there is none."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Settings

__all__ = ["fallback", "generic", "unit"]


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def generic(d: int, like: Tensor) -> Tensor:
    """A direction of no symmetry (d)."""
    return unit((1 + torch.arange(d, device=like.device).to(like.dtype)).sqrt().mul(2.4).cos())


def fallback(like: Tensor, settings: Settings) -> Tensor:
    """The direction to take where sum_i w_i x_i has none."""
    return generic(like.shape[-1], like) if settings.start is None else settings.start[0]

"""What the losses share that compare every sample of a batch with every other."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from .._tensors import everywhere
from ..families import Family
from ._distributed import rank

__all__ = ["check_temperature", "directions", "half_angle", "log_prob_ratio", "own_indices"]


def directions(vectors: Iterable[Tensor]) -> list[Tensor]:
    return [F.normalize(x, dim=-1) for x in vectors]


def own_indices(rows: Tensor, gathered: bool) -> Tensor:
    """The indices of this process's rows among those of all processes, (N,)."""
    n = len(rows)
    own = torch.arange(n, device=rows.device) + (rank() * n if gathered else 0)
    return everywhere(own, rows)


def half_angle(t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """sin2 and cos2 of a cosine, whose gradient they have also where rounding of a matrix product
    carries it beyond -1 or 1."""
    t = t + (t.clamp(-1, 1) - t).detach()  # a clamp with the gradient of t, which is faster
    return ((1 - t) / 2).to(dtype), ((1 + t) / 2).to(dtype)


def log_prob_ratio(t: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """log p(z_i) - log p(mu_k) for t[..., i, k] = mu_k . z_i, (..., N, K), in the dtype of kappa,
    which is (K,).

    At the antipode, where a density may be 0, cos2 stays positive, so that the loss is finite;
    elsewhere the added number is lost in rounding.
    """
    sin2, cos2 = half_angle(t, kappa.dtype)
    smallest = torch.finfo(kappa.dtype).tiny
    return family.reference.log_prob_ratio(kappa, d, sin2, cos2 + smallest)


def check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")

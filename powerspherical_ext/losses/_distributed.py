"""Batches that are spread over the processes of data-parallel training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_mean", "gather", "rank", "world_size"]


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, (world_size N, ...), ordered by rank; gradients flow to all.

    The losses of all processes that use a row add their gradients to it. With the average that
    DistributedDataParallel takes of the parameters' gradients this is the gradient of the mean of
    the processes' losses. Every process must hold as many rows (``drop_last=True``).
    """
    if world_size() == 1:
        return x
    rows = x.new_tensor([x.shape[0]], dtype=torch.int64)
    all_rows = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(all_rows, rows)
    counts = torch.cat(all_rows).tolist()
    if len(set(counts)) > 1:
        raise ValueError(
            f"every process must hold as many samples, got {counts}: use drop_last=True"
        )
    result: Tensor = _Gather.apply(x)
    return result


def all_mean(x: Tensor) -> Tensor:
    """The mean of ``x`` over all processes, without gradient."""
    x = x.detach()
    if world_size() > 1:
        x = x.clone()
        dist.all_reduce(x)
        x = x / world_size()
    return x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]

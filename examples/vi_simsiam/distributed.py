"""Data-parallel training by torchrun: NCCL on GPUs, gloo on CPUs; one process needs none of it.

A batch is the same images, augmented alike, for every number of processes. BatchNorm takes its
statistics over all of them, and the averaged gradient is the whole batch's: N processes train as
one does, up to rounding.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def rank() -> int:
    """torchrun tells it, also before the processes are connected."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def stop(message: str) -> NoReturn:
    """Ends a run with an error that all processes have: the first one prints it."""
    sys.exit(message if rank() == 0 else 1)


def connect(device: str) -> torch.device:
    """Connects the processes that torchrun has started, and returns the device of this one."""
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if world_size() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return torch.device(device)


def wait() -> None:
    """Until all processes are here. One that leaves while others still talk to it may abort."""
    if world_size() > 1:
        gc.collect()  # DistributedDataParallel is a cycle, and holds on to the connection
        dist.barrier()


def disconnect() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def data_parallel(network: nn.Module) -> nn.Module:
    """Averages the gradients of all processes."""
    if world_size() == 1:
        return network
    return nn.parallel.DistributedDataParallel(network)


def mean(x: Tensor) -> Tensor:
    """The mean over all processes, without gradient."""
    if world_size() > 1:
        dist.all_reduce(x)
        x = x / world_size()
    return x


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Every BatchNorm takes the statistics of all processes; names in the state stay the same."""
    if world_size() == 1:
        return network
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, CPUSyncBatchNorm.like(child))
    return network


class CPUSyncBatchNorm(_BatchNorm):
    """torch.nn.SyncBatchNorm refuses CPU tensors; this one takes them.

    Every process must hold as many samples.
    """

    @classmethod
    def like(cls, norm: _BatchNorm) -> CPUSyncBatchNorm:
        """A module with the parameters and buffers of another BatchNorm."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine)
        new._parameters, new._buffers = norm._parameters, norm._buffers
        return new

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        over = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = x.numel() // x.shape[1] * world_size()
        average = _Sum.apply(wide.sum(over)) / count
        centred = wide - average.view(shape)
        variance = _Sum.apply(centred.square().sum(over)) / count
        with torch.no_grad():
            self.running_mean.lerp_(average, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        result = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""


class _Sum(torch.autograd.Function):
    """The sum over all processes. All losses depend on it, so its gradient is a sum as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total

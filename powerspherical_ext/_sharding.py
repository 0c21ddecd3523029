"""Operations on DTensors: each process computes its own rows, with plain tensors.

Rows do not depend on one another, so that a batch which is sharded over processes needs no
communication.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute_tensor,
)

__all__ = ["Rows", "replicated"]


class Rows:
    """The rows of this process, of ``vectors`` (..., d) and ``scalars`` (...) that broadcast.

    The batch is split like the first of the tensors that is sharded along a batch dimension, and
    the other tensors are redistributed to match. So is a tensor that is sharded along d.
    ``local`` are the plain tensors, in the order of the arguments.
    """

    def __init__(self, vectors: Sequence[Tensor], scalars: Sequence[Tensor]) -> None:
        tensors = _checked((*vectors, *scalars))
        shapes = [*(x.shape[:-1] for x in vectors), *(x.shape for x in scalars)]
        self.mesh = tensors[0].device_mesh
        self.batch: Size = torch.broadcast_shapes(*shapes)
        self.placements = [  # of results, for each dimension of the mesh
            self._placement(i, tensors, shapes) for i in range(self.mesh.ndim)
        ]
        self.local = [self._local(x, shape) for x, shape in zip(tensors, shapes, strict=True)]

    def whole(self, result: Tensor) -> Tensor:
        """The DTensor of the processes' results, whose batch dimensions come first."""
        shape = self.batch + result.shape[len(self.batch) :]
        stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        whole: Tensor = DTensor.from_local(
            result.contiguous(),
            self.mesh,
            self.placements,
            run_check=False,
            shape=shape,
            stride=stride,
        )
        return whole

    def rng_state(self, rng_state: Tensor) -> Tensor:
        """The state from which this process draws: that of the first process, moved on by the rows
        of the processes before this one. So no two rows of the batch draw the same numbers.

        Every process takes the first one's state, so that copies of a row are equal. A batch that
        is sharded along its first dimension, over a mesh of one dimension, has the samples that one
        process would draw for it.
        """
        common = distribute_tensor(rng_state, self.mesh, [Replicate()] * self.mesh.ndim)
        assert isinstance(common, DTensor)
        sizes, number = list(self.batch), 0
        for i, placement in enumerate(self.placements):
            if isinstance(placement, Shard):
                count = self.mesh.size(i)
                sizes[placement.dim] = -(-sizes[placement.dim] // count)  # the largest shard's
                number = number * count + self.mesh.get_local_rank(i)
        before = torch.tensor([0, number * math.prod(sizes)], device=rng_state.device)
        return common.to_local() + before

    def _placement(self, i: int, tensors: Sequence[DTensor], shapes: Sequence[Size]) -> Placement:
        for x, shape in zip(tensors, shapes, strict=True):
            placement = x.placements[i]
            if isinstance(placement, Shard) and placement.dim < len(shape):
                dim = placement.dim + len(self.batch) - len(shape)
                if shape[placement.dim] == self.batch[dim]:
                    return Shard(dim)
        return Replicate()

    def _local(self, x: DTensor, shape: Size) -> Tensor:
        placements: list[Placement] = []
        of_grad: list[Placement] = []
        for placement in self.placements:
            if not isinstance(placement, Shard):
                placements.append(placement)
                of_grad.append(placement)
                continue
            dim = placement.dim - (len(self.batch) - len(shape))
            if dim >= 0 and shape[dim] == self.batch[placement.dim]:
                placements.append(Shard(dim))
                of_grad.append(Shard(dim))
            else:  # every process has the row, and a part of its gradient
                placements.append(Replicate())
                of_grad.append(Partial())
        local: Tensor = x.redistribute(self.mesh, placements).to_local(grad_placements=of_grad)
        return local


def _checked(tensors: Sequence[Tensor]) -> list[DTensor]:
    """The tensors, all of which must be DTensors."""
    dtensors = [x for x in tensors if isinstance(x, DTensor)]
    for x in tensors:
        if not isinstance(x, DTensor):
            raise TypeError(
                f"a plain tensor of shape {tuple(x.shape)} was given beside a DTensor: make it a "
                "DTensor as well, by torch.distributed.tensor.distribute_tensor"
            )
    return dtensors


def replicated(x: Tensor, mesh: DeviceMesh) -> DTensor:
    """The DTensor of a tensor that is the same in all processes."""
    return DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False)

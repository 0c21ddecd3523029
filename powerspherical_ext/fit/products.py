"""Products of samples with weights and with vectors, which are all that an estimator reads of them.

K weighted components share the samples: samples (B, n, d), weights (B, K, n). Each function takes
the samples x_i at unit length and passes over them in blocks, in float64. So beyond its inputs and
its result it needs a bounded amount of memory, and never K n d numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._tensors import wide

__all__ = ["coordinates", "dots", "masses", "square_distances", "sums", "unit_rows"]

_AT_ONCE = 2**18  # numbers of a block: 2 MiB in float64, of which most stay in a cache


def unit_rows(samples: Tensor, columns: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Blocks of samples: slices of B and of n, and the unit vectors there, (B', n', d).

    The next block overwrites the vectors. ``columns`` is how many numbers the caller makes for each
    sample, beyond its d coordinates.
    """
    for b, r, x, _ in _rows(samples, columns):
        yield b, r, x


def masses(weights: Tensor) -> Tensor:
    """sum_i w_ki, shape (B, K), differentiable."""
    batch, k, _ = weights.shape
    parts = weights.split(max(1, _AT_ONCE // max(1, batch * k)), -1)
    return torch.stack([wide(part).sum(-1) for part in parts]).sum(0)


def sums(samples: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_ki x_i, shape (B, K, d), differentiable in both."""
    result: Tensor = _Sums.apply(samples, weights)
    return result


def dots(samples: Tensor, vectors: Tensor) -> Tensor:
    """x_i . v_k, shape (B, K, n), for vectors (B, K, d), differentiable in both."""
    result: Tensor = _Dots.apply(samples, vectors)
    return result


def square_distances(points: Tensor, x: Tensor) -> Tensor:
    """|x_i - p_k|^2, shape (..., K, n), for points (..., K, d) and a block (..., n, d) of vectors.

    It is a sum of squares of differences, which does not cancel. It takes some five times as long
    as a product of matrices.
    """
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points, x, compute_mode=exact).square_()


def coordinates(samples: Tensor) -> Tensor | None:
    """Vectors (B, n, n) with the scalar products of the samples at unit length: the samples in a
    basis of their span, each with a coordinate of its own of some 1e-8 sqrt(n) besides.

    None where these would save no time. A batch that has none, for instance for NaN, has NaN.
    """
    batch, n, d = samples.shape
    if 16 * n > d or n * (n + d) > _AT_ONCE or batch * n * d < _AT_ONCE:  # 16: measured on a CPU
        return None
    products = wide(samples[:0]).new_empty(batch, n, n)
    for b, _, x in unit_rows(samples, n):
        products[b] = x @ x.mT
    products.diagonal(dim1=-2, dim2=-1).add_(2 * n * torch.finfo(products.dtype).eps)
    lower, failed = torch.linalg.cholesky_ex(products)
    result: Tensor = lower.masked_fill_((failed > 0).view(-1, 1, 1), math.nan)
    return result


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(samples, weights)
        return _sums(samples, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        samples, weights = ctx.saved_tensors
        in_samples, in_weights = ctx.needs_input_grad
        return (
            _spread(samples, weights, grad) if in_samples else None,
            _dots(samples, grad).to(weights.dtype) if in_weights else None,
        )


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(samples, vectors)
        return _dots(samples, vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        samples, vectors = ctx.saved_tensors
        in_samples, in_vectors = ctx.needs_input_grad
        return (
            _spread(samples, grad, vectors) if in_samples else None,
            _sums(samples, grad).to(vectors.dtype) if in_vectors else None,
        )


def _sums(samples: Tensor, weights: Tensor) -> Tensor:
    batch, k, _ = weights.shape
    total = wide(samples[:0]).new_zeros(batch, k, samples.shape[-1])
    for b, r, x, length in _rows(samples, k):
        w = wide(weights[b, :, r])
        if _is_sparse(w, length):
            total[b] += w[0].to_sparse() @ x[0]
        else:
            total[b] += w @ x
    return total


def _is_sparse(weights: Tensor, lengths: Tensor) -> bool:
    """Whether most weights (B', K, n') of a block are 0, as they are for many components that are
    far apart, so that a sparse product takes less time than a dense one.

    The numbers 32 and 20 were measured on a CPU. A sparse product leaves 0 times NaN out, so that
    the lengths of all samples have to be positive and finite.
    """
    batch, k, _ = weights.shape
    if weights.device.type != "cpu" or batch > 1 or k < 32:
        return False
    if 20 * weights.count_nonzero() > weights.numel():
        return False
    return bool(((lengths > 0) & (lengths < math.inf)).all())


def _dots(samples: Tensor, vectors: Tensor) -> Tensor:
    batch, k, _ = vectors.shape
    result = vectors.new_empty(batch, k, samples.shape[1])
    for b, r, x in unit_rows(samples, k):
        result[b, :, r] = vectors[b] @ x.mT
    return result


def _spread(samples: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
    """sum_k w_ki v_k, shape (B, n, d), as a gradient in samples of any length."""
    grad = torch.empty_like(samples)
    for b, r, x, length in _rows(samples, weights.shape[1]):
        in_x = wide(weights[b, :, r]).mT @ vectors[b]
        grad[b, r] = (in_x - (in_x * x).sum(-1, keepdim=True) * x) / length
    return grad


def _rows(samples: Tensor, columns: int) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """`unit_rows`, and the lengths of the samples. A block has about _AT_ONCE numbers."""
    batch, n, d = samples.shape
    rows = max(1, _AT_ONCE // (d + columns))
    buffer = wide(samples[:0]).new_empty(min(batch * n, rows) * d)
    for b in _slices(batch, max(1, rows // max(1, n))):
        for r in _slices(n, rows):
            block = samples[b, r]
            x = buffer[: block.numel()].view(block.shape).copy_(block)
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            yield b, r, x.div_(length), length


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))

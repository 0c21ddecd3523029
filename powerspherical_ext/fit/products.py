"""Products of samples with weights and with vectors, which are all that an estimator reads of them.

K weighted components share the samples: samples (B, n, d), weights (B, K, n). Each function takes
the samples x_i at unit length and passes over them in blocks, in float64. So beyond its inputs and
its result it needs a bounded amount of memory, and never K n d numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._tensors import wide

__all__ = ["dots", "square_distances", "sums", "unit_rows"]

_AT_ONCE = 2**17  # numbers of a block: 1 MiB in float64, which stays in a cache


def unit_rows(samples: Tensor, columns: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Blocks of samples: slices of B and of n, and the unit vectors there, (B', n', d).

    ``columns`` is how many numbers the caller makes for each sample, beyond its d coordinates.
    """
    for b, r, x, length in _rows(samples, columns):
        yield b, r, x / length


def sums(samples: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_ki x_i, shape (B, K, d), differentiable in both."""
    result: Tensor = _Sums.apply(samples, weights)
    return result


def dots(samples: Tensor, vectors: Tensor) -> Tensor:
    """x_i . v_k, shape (B, K, n), for vectors (B, K, d), differentiable in both."""
    result: Tensor = _Dots.apply(samples, vectors)
    return result


def square_distances(samples: Tensor, points: Tensor) -> Tensor:
    """|x_i - p_k|^2, shape (B, K, n), for points (B, K, d), from differences, which do not cancel.

    It takes some five times as long as `dots`, and has no derivative.
    """
    batch, k, _ = points.shape
    result = points.new_empty(batch, k, samples.shape[1])
    for b, r, x in unit_rows(samples, k):
        exact = "donot_use_mm_for_euclid_dist"
        result[b, :, r] = torch.cdist(points[b], x, compute_mode=exact).square_()
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
    for b, r, x in unit_rows(samples, k):
        total[b] += wide(weights[b, :, r]) @ x
    return total


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
        in_x, x = wide(weights[b, :, r]).mT @ vectors[b], x / length
        grad[b, r] = (in_x - (in_x * x).sum(-1, keepdim=True) * x) / length
    return grad


def _rows(samples: Tensor, columns: int) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Blocks of about _AT_ONCE numbers, and the lengths of the samples."""
    batch, n, d = samples.shape
    rows = max(1, _AT_ONCE // (d + columns))
    for b in _slices(batch, max(1, rows // n)):
        for r in _slices(n, rows):
            x = wide(samples[b, r])
            yield b, r, x, torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))

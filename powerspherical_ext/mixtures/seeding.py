"""Where expectation-maximisation starts: k-means++ (Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._tensors import wide
from ..fit.products import square_distances, unit_rows

__all__ = ["nearest", "seeds"]

_ROWS = 4096  # samples of a block


def seeds(x: Tensor, weights: Tensor | None, k: int, generator: torch.Generator | None) -> Tensor:
    """K of the samples (N, d) as first mean directions, shape (K, d).

    A sample is drawn with a probability proportional to its weight, and to 1 - cos of its angle to
    the nearest seed so far. Of 2 + log K draws the one is taken that leaves the samples nearest to
    the seeds. Where all samples equal seeds, the draw is by weight alone.
    """
    device = x.device if generator is None else generator.device
    draws = 2 + int(math.log(k))
    uniform = torch.rand((k, draws), generator=generator, device=device).to(x.device)
    mass = x.new_ones(len(x)) if weights is None else weights
    lower = _lower_to_distance(x)
    distance = x.new_full((len(x), draws), math.inf)
    index = _draw(mass, uniform[0, :1])
    lower(distance, index)
    chosen = [index]
    for i in range(1, k):
        potential = mass * distance[:, 0]
        candidates = _draw(torch.where((potential > 0).any(), potential, mass), uniform[i])
        lower(distance, candidates)
        best = (mass @ distance).argmin(0, keepdim=True)
        chosen.append(candidates[best])
        distance.copy_(distance[:, best])
    return x[torch.cat(chosen)]


def nearest(x: Tensor, mu: Tensor) -> Tensor:
    """The index of the mean direction (K, d) nearest to each of the samples (N, d), shape (N)."""
    result = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for _, rows, (block,) in unit_rows(x.unsqueeze(0), len(mu)):
        result[rows] = (mu @ block.mT).argmax(0)
    return result


def _draw(potential: Tensor, uniform: Tensor) -> Tensor:
    """Indices with probabilities proportional to ``potential`` (N), one for each uniform number.

    torch.multinomial takes 2^24 samples at most.
    """
    below = wide(potential).cumsum(0)
    index = torch.searchsorted(below, uniform.to(below.dtype) * below[-1], right=True)
    return index.clamp(max=len(potential) - 1)


def _lower_to_distance(x: Tensor) -> Callable[[Tensor, Tensor], None]:
    """A function that lowers each column of numbers (N, L), in place, to |x_i - x_l|^2 where that
    is less, for the indices of L samples, or of one.

    With m the mean of the samples and y = x_l - m it is |x_i - m|^2 + |y|^2 - 2 (x_i - m) . y,
    which is exact to a rounding of |y|. What is smaller than that is 0, as between equal samples.
    """
    mean = x.mean(0)
    squares = square_distances(mean.unsqueeze(0), x).mT
    noise = 8 * torch.finfo(x.dtype).eps

    def lower(numbers: Tensor, index: Tensor) -> None:
        y, square = x[index] - mean, squares[index].squeeze(-1)
        offset, least = square + 2 * (y @ mean), noise * square.sqrt()
        blocks = zip(x.split(_ROWS), squares.split(_ROWS), numbers.split(_ROWS), strict=True)
        for samples, of_samples, column in blocks:
            distance = of_samples + offset - 2 * (samples @ y.mT)
            torch.minimum(column, torch.where(distance > least, distance, 0.0), out=column)

    return lower

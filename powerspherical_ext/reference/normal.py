"""Uniform and normal variates from random words; see csrc/math/normal.h."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .philox import MASK, Words, row_words


def minus_two_log(high: Tensor, low: Tensor, dtype: torch.dtype) -> Tensor:
    """-2 log U, U = (k + 1/2) 2^-32 in float32; (k + 1/2) 2^-53, k from both words, in float64."""
    if dtype == torch.float64:
        return -2 * (((high << 21 | low >> 11).to(dtype) + 0.5) * 2.0**-53).log()
    near_one = high >= 0xB504F334  # U > sqrt(1/2): from 1 - U, which is the smaller number
    complement = torch.where(near_one, MASK - high, 0).to(dtype) + 0.5
    uniform = torch.where(near_one, 1, high).to(dtype) + 0.5
    return -2 * torch.where(
        near_one, torch.log1p(complement * -(2.0**-32)), (uniform * 2.0**-32).log()
    )


def sincos_turn(high: Tensor, low: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """sin and cos of 2 pi j / 2^32 in float32, by quadrants; of 2 pi U with 53 bits in float64."""
    if dtype == torch.float64:
        angle = 2 * math.pi * (((high << 21 | low >> 11).to(dtype) + 0.5) * 2.0**-53)
        return angle.sin(), angle.cos()
    quadrant = ((high + 0x20000000) & MASK) >> 30
    rest = (high - (quadrant << 30) + 0x80000000) & MASK
    angle = (rest - 0x80000000).to(dtype) * (math.pi * 2.0**-31)
    sine, cosine = angle.sin(), angle.cos()
    odd = quadrant % 2 == 1
    sine, cosine = torch.where(odd, cosine, sine), torch.where(odd, sine, cosine)
    return (
        torch.where(quadrant >= 2, -sine, sine),
        torch.where((quadrant == 1) | (quadrant == 2), -cosine, cosine),
    )


def normals(words: Words, dtype: torch.dtype) -> Tensor:
    """N(0, 1) by Box and Muller (1958) along a new last dimension: 4 in float32, 2 in float64."""
    w0, w1, w2, w3 = words
    pairs = [(w0, w1, w2, w3)] if dtype == torch.float64 else [(w0, w0, w1, w1), (w2, w2, w3, w3)]
    result = []
    for r0, r1, a0, a1 in pairs:
        radius = minus_two_log(r0, r1, dtype).sqrt()
        sine, cosine = sincos_turn(a0, a1, dtype)
        result += [radius * cosine, radius * sine]
    return torch.stack(result, -1)


def row_normals(rng_state: Tensor, rows: Tensor, d: int, dtype: torch.dtype) -> Tensor:
    """The standard normal vectors (..., d) of the rows (...)."""
    width = 2 if dtype == torch.float64 else 4
    blocks = torch.arange(-(-d // width), device=rows.device)
    words = row_words(rng_state, rows.unsqueeze(-1), 0, blocks)
    return normals(words, dtype).flatten(-2)[..., :d]


class ProposalNoise:
    """What the proposals of a rejection sampler draw, for each row, along a new last dimension.

    It draws for ``at_once`` proposals together. One at a time takes the least memory. Many make a
    program short that is traced.
    """

    def __init__(
        self, rng_state: Tensor, rows: Tensor, dtype: torch.dtype, at_once: int = 1
    ) -> None:
        self.rng_state, self.rows, self.dtype, self.at_once = rng_state, rows, dtype, at_once

    def normals(self, trial: int, step: int = 1) -> Tensor:
        """Of the proposals trial, trial + step, ..., shape [..., at_once]."""
        return normals(self._words(trial, step, 0), self.dtype)[..., 0]

    def minus_two_logs(self, trial: int, step: int = 1) -> tuple[Tensor, Tensor]:
        """Two independent variates of -2 log U, each of shape [..., at_once]."""
        w0, w1, w2, w3 = self._words(trial, step, 1)
        if self.dtype == torch.float64:
            return minus_two_log(w0, w1, self.dtype), minus_two_log(w2, w3, self.dtype)
        return minus_two_log(w0, w0, self.dtype), minus_two_log(w1, w1, self.dtype)

    def _words(self, trial: int, step: int, block: int) -> Words:
        streams = 1 + trial + step * torch.arange(self.at_once, device=self.rows.device)
        blocks = torch.full_like(self.rows, block).unsqueeze(-1)
        return row_words(self.rng_state, self.rows.unsqueeze(-1), streams, blocks)


def first_accepted(accepted: Tensor) -> tuple[Tensor, Tensor]:
    """Whether any of the proposals [..., at_once] is, [...]; the index of the first, [..., 1]."""
    return accepted.any(-1), accepted.to(torch.int64).argmax(-1, keepdim=True)


def replace_first(first: Tensor, others: Tensor) -> Tensor:
    """Variates [..., at_once] of which the first is ``first`` [...]."""
    return torch.cat([first.unsqueeze(-1), others[..., 1:]], -1)

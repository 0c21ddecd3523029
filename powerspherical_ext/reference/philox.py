"""Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011) on int64 tensors; see csrc/math/philox.h.

Words are unsigned 32-bit numbers held in int64, so that every device and transform can run this.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(seed: Tensor, counter: Words) -> Words:
    """Ten rounds over a 64-bit seed and four counter words that broadcast against each other."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(10):
        # The 64-bit product wraps like C's; shifting and masking recovers its unsigned halves.
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c2 = ((product1 >> 32) & MASK) ^ c1 ^ k0, ((product0 >> 32) & MASK) ^ c3 ^ k1
        c1, c3 = product1 & MASK, product0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def row_words(rng_state: Tensor, rows: Tensor, stream: int | Tensor, blocks: Tensor) -> Words:
    """The words of some blocks of some rows of some streams; the three broadcast.

    ``rng_state`` is int64 of shape (2,): seed and offset. Stream 0 holds the normals of a row,
    element by element; stream 1 + trial what the trial-th proposal of a rejection sampler draws.
    """
    position = rows + rng_state[1]
    return philox(
        rng_state[0],
        (
            blocks & MASK,
            position & MASK,
            (position >> 32) & MASK,
            stream + torch.zeros_like(blocks),
        ),
    )

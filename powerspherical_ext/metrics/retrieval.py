"""Right and wrong retrievals by the nearest neighbour, which need no classifier."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ranking import auroc

__all__ = ["r_auroc", "recall_at_1"]


def recall_at_1(embeddings: Any, labels: Any, *, chunk: int = 1024) -> Tensor:
    """For each sample: has the nearest other sample, by cosine, the same label? Booleans, (N,).

    Args:
        embeddings: (N, d), N >= 2; the length of a row does not matter.
        labels: (N,) integers.
        chunk: number of rows of the similarity matrix in memory at a time.

    Raises:
        ValueError: shapes that do not fit, or a NaN.

    Example:
        >>> recall_at_1([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 1.0]], [0, 0, 1, 2])
        tensor([ True,  True, False, False])

    Source:
        Kirchhof, Mucsanyi, Oh and Kasneci, "URL: A Representation Learning Benchmark for
        Transferable Uncertainty Estimates", NeurIPS 2023.
    """
    x = torch.as_tensor(embeddings).detach()
    y = torch.as_tensor(labels, device=x.device).detach()
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"embeddings must have shape (N, d) with N >= 2, got {tuple(x.shape)}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"labels must have shape {(len(x),)}, got {tuple(y.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError("embeddings must be finite, got NaN or infinite values")
    x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
    nearest = []
    for start in range(0, len(x), chunk):
        similarity = x[start : start + chunk] @ x.T
        rows = torch.arange(len(similarity), device=x.device)
        similarity[rows, rows + start] = -math.inf
        nearest.append(similarity.argmax(dim=-1))
    return y[torch.cat(nearest)] == y


def r_auroc(embeddings: Any, labels: Any, score: Any) -> float:
    """The AUROC of the score for right retrievals: :func:`auroc` of :func:`recall_at_1`.

    It needs no classifier and no training set, and therefore compares across models.

    Args:
        embeddings, labels: as in :func:`recall_at_1`.
        score: (N,), higher is more confident.

    Raises:
        ValueError: as the two functions.

    Example:
        >>> x = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 1.0]]
        >>> r_auroc(x, [0, 0, 1, 2], score=[9.0, 8.0, 3.0, 8.5])
        0.75

    Source:
        Kirchhof et al. 2023.
    """
    return auroc(score, recall_at_1(embeddings, labels))

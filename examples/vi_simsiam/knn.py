"""Weighted k-nearest-neighbour classification by cosine, as Wu et al. (2018) have it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS, TEMPERATURE = 20, 0.07


class Neighbours(NamedTuple):
    similarity: Tensor  # (N, k), the cosines, from the highest on
    label: Tensor  # (N, k)


class Prediction(NamedTuple):
    """A classifier's answers, and how sure it is itself."""

    label: Tensor  # (N,)
    share: Tensor  # (N,), of the votes for kNN, of the probability for a linear classifier


def neighbours(
    bank: Tensor, labels: Tensor, queries: Tensor, k: int = NEIGHBOURS, chunk: int = 1000
) -> Neighbours:
    """The k nearest features of a bank (M, D) for each query (N, D)."""
    bank = F.normalize(bank, dim=-1)
    k = min(k, len(bank))
    parts = [(F.normalize(q, dim=-1) @ bank.T).topk(k) for q in queries.split(chunk)]
    similarity, index = (torch.cat([part[i] for part in parts]) for i in range(2))
    return Neighbours(similarity, labels.to(index.device)[index])


def vote(near: Neighbours, n_classes: int, k: int = NEIGHBOURS) -> Prediction:
    """Each of the k nearest votes for its label, with a weight of exp(cosine / TEMPERATURE)."""
    weights = ((near.similarity[:, :k] - 1) / TEMPERATURE).exp()
    votes = weights.new_zeros(len(weights), n_classes)
    votes.scatter_add_(1, near.label[:, :k], weights)
    most = votes.max(dim=-1)
    return Prediction(most.indices, most.values / votes.sum(dim=-1))

"""Table 8: the whole encoder is trained further, with the labels of 1 % and 10 % of the images.

As in Appendix H, 200 epochs in batches of 128. The paper gives neither optimiser nor augmentation;
here they are SGD with a momentum of 0.9 and a cosine schedule from 0.05, and crops of at least half
the image's area. The same number of labels is drawn for every class, with the run's seed.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment import Random, random_resized_crop
from ..methods import METHODS
from ..model import build_network
from .features import CHUNK, Features, undamaged

FRACTIONS = (0.01, 0.1)
LR, MOMENTUM, BATCH_SIZE, CROP = 0.05, 0.9, 128, (0.5, 1.0)


def pretrained(features: Features, epochs: int) -> dict[str, Any]:
    return fractions(features, epochs, scratch=False)


def scratch(features: Features, epochs: int) -> dict[str, Any]:
    """The paper's baseline: the same encoder from random weights."""
    return fractions(features, epochs, scratch=True)


def fractions(features: Features, epochs: int, scratch: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"epochs": epochs}
    for fraction in FRACTIONS:
        rows = chosen(features, fraction)
        accuracy = fine_tune(features, rows, epochs, scratch)
        result[f"{fraction:.0%}"] = {"labels": len(rows), "accuracy": accuracy}
    return result


def chosen(features: Features, fraction: float) -> Tensor:
    """As many rows of each class, at least one, at random."""
    labels = features.data.train_labels
    generator = torch.Generator().manual_seed(features.run.settings["seed"])
    order = torch.randperm(len(labels), generator=generator)
    each = max(1, round(fraction * len(labels) / features.n_classes))
    return torch.cat([order[labels[order] == c][:each] for c in range(features.n_classes)])


def fine_tune(features: Features, rows: Tensor, epochs: int, scratch: bool) -> float:
    settings, device = features.run.settings, features.device
    torch.manual_seed(settings["seed"])
    encoder = copy.deepcopy(features.run.network.encoder)
    if scratch:
        encoder = build_network(METHODS[settings["method"]], settings).encoder.to(
            device, memory_format=torch.channels_last
        )
    model = nn.Sequential(encoder, nn.Linear(encoder.features, features.n_classes).to(device))
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
    images = torch.cat(list(features.chunks(features.data.train_images[rows])))
    labels = features.data.train_labels[rows].to(device)
    random = Random(device, settings["seed"])
    model.train()
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * epoch / epochs)) / 2
        order = torch.randperm(len(rows), device=device, generator=random.generator)
        for batch in order.split(BATCH_SIZE):
            if len(batch) < 2:  # BatchNorm needs two
                continue
            x = images[batch]
            x = random_resized_crop(x, settings["view_size"], CROP, features.data.flip, random)
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return accuracy(features, model, random)


@torch.no_grad()
def accuracy(features: Features, model: nn.Module, random: Random) -> float:
    model.eval()
    rows = features.test_rows(features.sizes.test)
    right, labels = 0, features.data.test_labels[rows].to(features.device).split(CHUNK)
    for x, label in zip(features.chunks(features.data.test_images[rows]), labels, strict=True):
        views = undamaged(x, features.run.settings["view_size"], random)
        for part, part_label in zip(views.split(500), label.split(500), strict=True):
            part = part.contiguous(memory_format=torch.channels_last)
            right += int((model(part).argmax(dim=-1) == part_label).sum())
    return right / len(rows)

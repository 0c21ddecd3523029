"""Pictures of test images: the surest and the least sure ones, and crops of some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ..augment import Random, random_resized_crop
from ..evaluate import whole
from ..model import embed
from .correctness import pooled
from .features import CROP_SCALE, Features
from .style import subplots

IMAGES, SHOWN_CROPS = 4, 11


def extremes(groups: Mapping[str, Any], first: Mapping[str, Features]) -> Any:
    """Figs. 1, 10, 12 and 13, of the first seed of each method."""
    columns = 20
    figure, axes = subplots(2 * len(groups), columns, 15, 0.6 + 2.1 * len(groups))
    for k, (label, features) in enumerate(first.items()):
        scores, correct = pooled(features, "knn", "clean")
        name = next(iter(scores))
        order = scores[name].argsort(descending=True)
        images = features.data.test_images[features.test_rows(features.sizes.test)]
        for line, (which, rows) in enumerate((("highest", order), ("lowest", order.flip(0)))):
            for axis, row in zip(axes[2 * k + line], rows[:columns].tolist(), strict=True):
                show(axis, images[row] / 255, words(scores[name][row].item()), bool(correct[row]))
            axes[2 * k + line, 0].set_ylabel(f"{label}\n{which}\n{name}", fontsize=8)
    figure.suptitle(
        "Clean test images of highest and lowest confidence, with its value; "
        "thick frame: kNN is wrong"
    )
    return figure


def crops(groups: Mapping[str, Any], first: Mapping[str, Features]) -> Any:
    """Fig. 7: some images, whole on the left, and random crops from the highest kappa on."""
    own = {label: f for label, f in first.items() if f.run.settings["method"] in WITH_CONFIDENCE}
    if not own:
        return None
    figure, axes = subplots(IMAGES * len(own), 1 + SHOWN_CROPS, 11, 0.6 + 4.4 * len(own))
    for k, (label, features) in enumerate(own.items()):
        size = features.run.settings["view_size"]
        rows = features.test_rows(features.sizes.test)[:IMAGES]
        images = torch.cat(list(features.chunks(features.data.test_images[rows])))
        random = Random(features.device, seed=7)
        flip = features.data.flip
        views = [whole(images, size)]
        views += [
            random_resized_crop(images, size, CROP_SCALE, flip, random) for _ in range(SHOWN_CROPS)
        ]
        scores = [features.scores(embed(features.run.network, v)) for v in views]
        name = next(iter(scores[0]))
        score = torch.stack([s[name] for s in scores])  # (1 + SHOWN_CROPS, IMAGES)
        for i in range(IMAGES):
            order = [0, *(1 + score[1:, i].argsort(descending=True)).tolist()]
            for axis, view in zip(axes[IMAGES * k + i], order, strict=True):
                show(axis, views[view][i], words(score[view, i].item()), True)
        axes[IMAGES * k, 0].set_title("whole", fontsize=9)
        axes[IMAGES * k, 1].set_title("crops", fontsize=9)
        axes[IMAGES * k, 0].set_ylabel(f"{label}\n{name}", fontsize=8)
    figure.suptitle("Whole images, and random crops of them from the highest confidence on")
    return figure


WITH_CONFIDENCE = ("vi-simsiam", "vi-simclr", "dino")


def words(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(axis: Axes, image: Tensor, label: str, correct: bool) -> None:
    pixels = image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).cpu().numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(label, fontsize=7, labelpad=2)
    if not correct:
        axis.spines[:].set(color="#D55E00", linewidth=3.5)

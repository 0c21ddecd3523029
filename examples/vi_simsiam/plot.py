"""One picture of a run: training, AUROC, kappa by damage, calibration, extreme images."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.gridspec import GridSpec
from torch import Tensor

from .evaluate import Damaged, Evaluation

COLUMNS = 12
BLUE, ORANGE, RED, GRAY = "#2b6cb0", "#dd6b20", "#c53030", "#a0aec0"


def save(path: Path, title: str, history: dict[str, list[float]], evaluation: Evaluation) -> None:
    figure = plt.figure(figsize=(14, 12.5), layout="constrained")
    figure.suptitle(title, fontsize=15, fontweight="bold")
    curves, images = figure.subfigures(2, 1, height_ratios=[7, 5.5])
    last = "damage" if evaluation.calibration is None else "calibration"
    axes = curves.subplot_mosaic([["training", "auroc"], ["damage", last]])
    training_curve(axes["training"], history)
    auroc_bars(axes["auroc"], evaluation)
    confidence_histograms(axes["damage"], evaluation)
    if evaluation.calibration is not None:
        calibration_curve(axes["calibration"], evaluation)
    image_strips(images, evaluation)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def smooth(values: list[float], window: int) -> np.ndarray:
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def training_curve(axis: Axes, history: dict[str, list[float]]) -> None:
    loss, cosine = history["loss"], history["cosine"]
    window = max(1, len(loss) // 50)
    steps = np.arange(len(loss) - window + 1) + (window + 1) / 2  # the middle of each window
    axis.plot(np.arange(1, len(loss) + 1), loss, color=BLUE, alpha=0.25, linewidth=0.8)
    axis.plot(steps, smooth(loss, window), color=BLUE)
    low, high = np.percentile(loss, [0, 95])
    axis.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))
    averaged = f" (thick: mean of {window} steps)" if window > 1 else ""
    axis.set(title=f"Training{averaged}", xlabel="step")
    axis.set_ylabel("loss", color=BLUE)
    right = axis.twinx()
    right.plot(steps, smooth(cosine, window), color=ORANGE)
    right.set_ylabel("cosine between views", color=ORANGE)
    right.set_ylim(0, 1)


def auroc_bars(axis: Axes, evaluation: Evaluation) -> None:
    results = evaluation.results["auroc"]
    table = {k: v for k, v in results.items() if k != "chance_sd"}
    places = np.arange(len(table))
    for shift, key, color, label in (
        (-0.2, "clean", GRAY, "clean test images"),
        (0.2, "pooled", BLUE, "all damages pooled"),
    ):
        bars = axis.bar(places + shift, [row[key] for row in table.values()], 0.38, color=color)
        bars.set_label(label)
        if results["chance_sd"][key] > 0:  # NaN where no AUROC exists
            ends = 0.5 + np.array([-2, 2]) * results["chance_sd"][key]
            for place in places + shift:
                axis.fill_between(place + np.array([-0.19, 0.19]), *ends, color="black", alpha=0.4)
        axis.bar_label(bars, fmt="%.2f", fontsize=9)
    axis.axhline(0.5, color="black", linewidth=0.8, linestyle=":", label="chance; dark: ± 2 sd")
    axis.set_xticks(places, list(table))
    axis.set_ylim(0, 1.25)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.set(title="Does it know when kNN is wrong?", ylabel="AUROC against kNN correctness")
    axis.legend(loc="upper right", frameon=False)


def confidence_histograms(axis: Axes, evaluation: Evaluation) -> None:
    """One row of a density for each damage, on a common axis."""
    scores = {name: confidence(part) for name, part in evaluation.damaged.items()}
    low, high = np.percentile(np.concatenate(list(scores.values())), [0.2, 99.8])
    edges = np.linspace(low, high, 60)
    for row, (name, score) in enumerate(reversed(scores.items())):
        heights, _ = np.histogram(score, edges)
        heights = 0.9 * heights / heights.max()
        color = BLUE if name == "clean" else ORANGE
        axis.stairs(row + heights, edges, baseline=row, fill=True, color=color, alpha=0.6)
        axis.plot([np.median(score)] * 2, [row, row + 0.9], color="black", linewidth=1.2)
    axis.set_yticks(np.arange(len(scores)) + 0.3, list(reversed(scores)))
    axis.tick_params(axis="y", length=0)
    name = confidence_name(evaluation)
    axis.set(title=f"{name} of the test images, by damage (line: median)", xlabel=name)


def calibration_curve(axis: Axes, evaluation: Evaluation) -> None:
    calibration = evaluation.calibration
    both = [*calibration.predicted, *calibration.observed]
    ends = [min(both) - 0.05, max(both) + 0.05]
    axis.plot(ends, ends, color=GRAY, linestyle="--", label="calibrated")
    axis.plot(
        calibration.predicted, calibration.observed, "o-", color=BLUE, label="a tenth of the images"
    )
    axis.set(
        title=f"Calibration without labels, ECE {calibration.ece:.3f}",
        xlabel=r"cosine that kappa expects, $\kappa/(\kappa+d-1)$",
        ylabel="cosine observed between two views",
        xlim=ends,
        ylim=ends,
    )
    axis.legend(loc="upper left", frameon=False)


def image_strips(figure, evaluation: Evaluation) -> None:
    name = confidence_name(evaluation)
    grid = GridSpec(4, COLUMNS, figure=figure)
    for pair, (kind, rows) in enumerate((("clean", "clean"), ("crop 0.05-1", "random crop"))):
        part = evaluation.damaged[kind]
        order = np.argsort(-confidence(part), kind="stable")
        for line, chosen in enumerate((order[:COLUMNS], order[::-1][:COLUMNS])):
            which = ("highest", "lowest")[line]
            for column, index in enumerate(chosen):
                axis = figure.add_subplot(grid[2 * pair + line, column])
                value = confidence(part)[index]
                label = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
                show(axis, part.views[index], label, part.correct[index])
                if column == 0:
                    axis.set_ylabel(f"{rows}\n{which}", fontsize=11)
    figure.suptitle(
        f"Test images of highest and lowest {name}, with its value; red frame: kNN is wrong"
    )


def show(axis: Axes, image: Tensor, label: str, correct: bool) -> None:
    pixels = image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).cpu().numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(label, fontsize=9)
    if not correct:
        axis.spines[:].set(color=RED, linewidth=3)


def confidence_name(evaluation: Evaluation) -> str:
    return next(iter(evaluation.damaged["clean"].scores))


def confidence(part: Damaged) -> np.ndarray:
    """kappa, for DINO the negative entropy, and for the others the norm of mu or z."""
    return next(iter(part.scores.values()))

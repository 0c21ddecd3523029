"""The tables and the picture of hyperspherical_vae.py."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from vi_simsiam.markdown import cell, markdown, over_seeds

# Davidson et al. 2018, Table 1, as two public reproductions quote it: the log-likelihood, its
# standard deviation, and the KL divergence, by posterior and by d. The "d" of the paper is the
# dimension of the sphere, which is one less than ours.
PUBLISHED = {
    ("gaussian", 3): (-135.73, 0.83, 7.24),
    ("gaussian", 6): (-110.21, 0.21, 12.82),
    ("gaussian", 11): (-93.84, 0.30, 19.44),
    ("gaussian", 21): (-88.90, 0.26, 23.50),
    ("gaussian", 41): (-88.93, 0.30, 23.77),
    ("von_mises_fisher", 3): (-132.50, 0.73, 7.28),
    ("von_mises_fisher", 6): (-108.43, 0.09, 13.35),
    ("von_mises_fisher", 11): (-93.16, 0.31, 20.67),
    ("von_mises_fisher", 21): (-89.02, 0.31, 28.50),
    ("von_mises_fisher", 41): (-90.87, 0.34, 33.50),
}
NOTES = """Means ± standard deviations over n seeds, in nats for each test image, and for kNN the
fraction of right answers of the 5 neighbours of the posterior's mode. log p(x) is estimated by
importance sampling. The published figures are of the Gaussian in d - 1 dimensions and of von
Mises-Fisher in Davidson et al. (2018), Table 1, which is about all of MNIST."""
# Okabe and Ito's colours, which differ for the colour-blind; lines and letters differ in grey, too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
LINES = ("-", "--", "-.", ":")

Rows = Sequence[Mapping]


def write(stem: Path, results: Mapping) -> None:
    """``stem``.json with every number, and ``stem``.md with the tables."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    made = f"Made by `{results['command']}` on {results['machine']}."
    text = tables(results["results"], results["times"])
    stem.with_suffix(".md").write_text(f"{made}\n\n{NOTES}\n\n{text}")


def tables(rows: Rows, times: Rows) -> str:
    return f"{results_table(rows)}\n\n{times_table(times)}\n"


def results_table(rows: Rows) -> str:
    """Markdown: mean and standard deviation over the seeds, beside the published figures."""
    published = ("published log p(x)", "published KL")
    head = ("d", "posterior", "n", "log p(x)", "ELBO", "KL", "kNN", *published)
    lines = []
    for dim, name in dict.fromkeys((row["dim"], row["posterior"]) for row in rows):
        group = [row for row in rows if (row["dim"], row["posterior"]) == (dim, name)]
        digits = {"log_likelihood": 2, "elbo": 2, "kl": 2, "knn": 3}
        ours = [cell(over_seeds([row[key] for row in group]), n) for key, n in digits.items()]
        theirs = ["", ""]
        if (name, dim) in PUBLISHED:
            mean, sd, kl = PUBLISHED[name, dim]
            theirs = [f"{mean:.2f} ± {sd:.2f}", f"{kl:.2f}"]
        lines.append((dim, words(name), len(group), *ours, *theirs))
    return markdown(head, lines)


def times_table(rows: Rows) -> str:
    """Markdown: medians over the rounds, also of the shares and ratios; see svae/timing.py."""
    ratio = "step / power spherical's"
    head = ("d", "posterior", "training step (ms)", "sample and KL in it", ratio)
    lines = [
        (
            row["dim"],
            words(row["posterior"]),
            f"{row['step_ms']:.2f}",
            f"{row['share']:.0%}",
            f"{row['step_over_ours']:.2f}",
        )
        for row in rows
    ]
    return markdown(head, lines)


def words(name: str) -> str:
    return "von Mises-Fisher" if name == "von_mises_fisher" else name.replace("_", " ")


def picture(
    stem: Path,
    title: str,
    rows: Rows,
    histories: Mapping[str, Sequence[float]],
    latents: Mapping[str, np.ndarray],
    labels: np.ndarray,
) -> None:
    """Training and log-likelihoods, and for d = 3 the test images' places on the sphere."""
    spheres = {name: z for name, z in latents.items() if z.shape[1] in (2, 3)}
    draw = any(z.shape[1] == 3 for z in spheres.values())
    figure = plt.figure(figsize=(11, 10.5 if draw else 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    parts = figure.subfigures(2, 1, height_ratios=[2, 3.2]) if draw else [figure.subfigures(1, 1)]
    curves, bars = parts[0].subplots(1, 2)
    training(curves, histories)
    likelihoods(bars, rows)
    if draw:
        latent_maps(parts[1], spheres, labels)
    figure.savefig(stem.with_suffix(".png"), dpi=110)
    plt.close(figure)


def training(axis: Axes, histories: Mapping[str, Sequence[float]]) -> None:
    every = list(histories.values())
    window = max(1, min(map(len, every)) // 25)
    for k, (name, history) in enumerate(histories.items()):
        smooth = np.convolve(history, np.full(window, 1 / window), mode="valid")
        steps = np.arange(window, len(history) + 1)
        axis.plot(steps, smooth, LINES[k % 4], color=COLORS[k], label=words(name), linewidth=1.6)
    last = [np.mean(history[-window:]) for history in every]
    axis.set_ylim(min(last) - 60, max(last) + 10)
    axis.set(title="Training, first seed", xlabel="step", ylabel="ELBO of the batches (nats)")
    axis.legend(loc="lower right", frameon=False, fontsize=9)
    axis.grid(alpha=0.3)


def likelihoods(axis: Axes, rows: Rows) -> None:
    """ELBO and log-likelihood as the two ends of a line; what lies between is the bound's gap."""
    names = list(dict.fromkeys(row["posterior"] for row in rows))
    for k, name in enumerate(names):
        group = [row for row in rows if row["posterior"] == name]
        low, high = (
            statistics.mean(row[key] for row in group) for key in ("elbo", "log_likelihood")
        )
        axis.plot([low, high], [k, k], color=COLORS[k], linewidth=1.6, linestyle=LINES[k % 4])
        axis.plot(low, k, "o", color=COLORS[k], markerfacecolor="white", markersize=8)
        axis.plot(high, k, "s", color=COLORS[k], markersize=8)
        for value, side, place in ((low, -14, "right"), (high, 14, "left")):
            axis.annotate(f"{value:.1f}", (value, k), (side / 2, 8), ha=place, fontsize=9,
                          textcoords="offset points")  # fmt: skip
    axis.set_yticks(range(len(names)), [words(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.8)
    axis.margins(x=0.25)
    axis.grid(axis="x", alpha=0.3)
    seeds = len({row["seed"] for row in rows})
    title = "ELBO (circle) and log p(x) (square)" + (f", {seeds} seeds" if seeds > 1 else "")
    axis.set(title=title, xlabel="nats for each test image")


def latent_maps(figure: SubFigure, latents: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
    """Each test image as its label, where the mode of its posterior is."""
    figure.suptitle("Modes of the test images' posteriors, each drawn as its label", fontsize=11)
    columns = 2 if len(latents) > 1 else 1
    count = -(-len(latents) // columns)
    for k, (name, z) in enumerate(latents.items()):
        sphere = z.shape[1] == 3
        axis = figure.add_subplot(count, columns, k + 1, projection="hammer" if sphere else None)
        if sphere:
            x, y = np.arctan2(z[:, 1], z[:, 0]), np.arcsin(np.clip(z[:, 2], -1, 1))
            axis.set_title(f"{words(name)}: the sphere, in an equal-area map", fontsize=10)
            axis.set_xticklabels([])
            axis.set_yticklabels([])
        else:
            x, y = z.T
            axis.set_title(f"{words(name)}: the plane", fontsize=10)
            axis.set_aspect("equal", "datalim")
        for label in np.unique(labels):
            mine = labels == label
            axis.scatter(x[mine], y[mine], s=22, marker=f"${label}$", linewidths=0.2,
                         color=COLORS[label % len(COLORS)])  # fmt: skip
        axis.grid(alpha=0.3)

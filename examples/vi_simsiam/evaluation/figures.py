"""The pictures of a report: numbers here, images in image_figures.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from powerspherical_ext.metrics import accuracy_by_bin, logistic_regression

from . import image_figures
from .correctness import CLASSIFIERS, TESTS, pooled
from .features import Features
from .style import dots, error, grid, look, save, seeds_note, subplots

Groups = Mapping[str, Mapping[str, Any]]
WORDS = {"knn": "kNN", "linear": "linear classifier"}
CONFIDENCES = (  # in the order of the pictures
    *("kappa", "negative entropy", "norm of mu", "norm of z", "norm of y"),
    *("nearest similarity", *CLASSIFIERS.values()),
)


def draw(
    out: Path, report: Mapping[str, Any], features: Sequence[Features]
) -> dict[str, list[str]]:
    """Writes all pictures; returns their names by section."""
    by_name = {f.run.name: f for f in features}
    pictures: dict[str, list[str]] = {}
    for section, figure, stem in FIGURES:
        groups = {
            label: {**g["sections"][section], **g}
            for label, g in report["groups"].items()
            if section in g["sections"]
        }
        if not groups:
            continue
        first = {label: by_name[g["runs"][0]] for label, g in groups.items()}
        drawn = figure(groups, first)
        if drawn is not None:
            name = save(drawn, out / f"{stem}.png")
            pictures.setdefault(section, []).append(name)
    if report.get("entropy"):
        figure = entropy(report["entropy"][0], by_name)
        pictures["entropy"] = [save(figure, out / "entropy.png")]
    return pictures


def own(features: Features) -> str:
    """The first confidence: kappa, the negative entropy, or for other methods a norm."""
    return next(iter(features["test"]["clean"]["scores"]))


def accuracy(groups: Groups, first: Mapping[str, Features]) -> Any:
    figure, axes = subplots(1, 1, 7.5, 1.4 + 0.5 * len(groups))
    axis = axes[0, 0]
    places = np.arange(len(groups))
    for k, classifier in enumerate(CLASSIFIERS):
        parts = [g["sections"].get(classifier) for g in groups.values()]
        for test, filled in (("clean", True), ("damaged", False)):
            leaves = [part and part["accuracy"][test] for part in parts]
            options = look(k, line=False) | ({} if filled else {"markerfacecolor": "white"})
            shift = 0.12 * (2 * k - 1)
            dots(axis, leaves, places + shift, label=f"{WORDS[classifier]}, {test}", **options)
    axis.set_yticks(places, list(groups))
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set(title="Accuracy" + seeds_note(groups), xlabel="accuracy on the test images")
    axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    grid(axis)
    return figure


def auroc(groups: Groups, first: Mapping[str, Features]) -> Any:
    height = 2 + 2 * (0.25 + 0.09 * len(groups)) * 7
    figure, axes = subplots(2, 2, 11, height, sharex=True, sharey="row")
    for row, classifier in zip(axes, CLASSIFIERS, strict=True):
        shown = {n for g in groups.values() for n in g[classifier]["clean"]["confidences"]}
        names = [name for name in CONFIDENCES if name in shown]
        for axis, test in zip(row, TESTS, strict=True):
            for k, (label, g) in enumerate(groups.items()):
                table = g[classifier][test]["confidences"]
                leaves = [table.get(name, {}).get("auroc") for name in names]
                places = np.arange(len(names)) + 0.7 * ((k + 0.5) / len(groups) - 0.5)
                dots(axis, leaves, places, label=label, **look(k, False))
            axis.axvline(0.5, color="black", linewidth=1, linestyle=":")
            axis.set(title=f"{WORDS[classifier]}, {test} test images")
            axis.set_yticks(range(len(names)), names)
            axis.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
            axis.tick_params(axis="y", which="both", length=0)
            axis.grid(axis="y", which="minor", color="0.6", linewidth=0.8)
            grid(axis, "x")
        row[0].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes[1]:
        axis.set_xlabel("AUROC of right against wrong answers (chance .5)")
    figure.suptitle("Which confidence tells right from wrong?" + seeds_note(groups))
    legend_below(figure, axes[0, 0], groups)
    return figure


def legend_below(figure: Any, axis: Axes, groups: Groups) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if len(groups) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(groups)))


def roc(groups: Groups, first: Mapping[str, Features]) -> Any:
    """Fig. 4, and for DINO Fig. 5: the first confidence of each method."""
    figure, axes = subplots(2, 2, 9.5, 10)
    for row, classifier in zip(axes, CLASSIFIERS, strict=True):
        for axis, test in zip(row, TESTS, strict=True):
            for k, (label, g) in enumerate(groups.items()):
                name = own(first[label])
                ranking = g[classifier][test]["confidences"][name]
                if "auroc" not in ranking:
                    continue
                x = np.array(g["false_positive_rates"]["mean"])
                curve = ranking["true_positive_rates"]
                options = look(k) | {"markevery": (k, 12), "markersize": 5}
                value = f"{ranking['auroc']['mean']:.3f}"
                axis.plot(x, curve["mean"], label=f"{label}, {name}: {value}", **options)
                if curve["sd"] is not None:
                    mean, sd = np.array(curve["mean"]), np.array(curve["sd"])
                    axis.fill_between(x, mean - sd, mean + sd, color=options["color"], alpha=0.2)
            axis.plot([0, 1], [0, 1], color="0.5", linewidth=0.8)
            axis.set(
                title=f"{WORDS[classifier]}, {test} test images",
                xlabel="wrong answers above the threshold",
                ylabel="right answers above the threshold",
                xlim=(0, 1),
                ylim=(0, 1),
                aspect="equal",
            )
            axis.legend(fontsize=8, loc="lower right", title="AUROC", title_fontsize=8)
            grid(axis)
    note = seeds_note(groups).replace("error bars", "bands")
    figure.suptitle("ROC of right against wrong answers" + note)
    return figure


def tenths(groups: Groups, first: Mapping[str, Features]) -> Any:
    figure, axes = subplots(1, 2, 10, 4.5, sharey=True)
    for axis, classifier in zip(axes[0], CLASSIFIERS, strict=True):
        for k, (label, g) in enumerate(groups.items()):
            name = own(first[label])
            leaf = g[classifier][name].get("accuracy")
            if leaf:
                text = f"{label}, {name}"
                axis.errorbar(
                    range(1, 11), leaf["mean"], yerr=error(leaf), capsize=3, label=text, **look(k)
                )
        axis.set(
            title=WORDS[classifier],
            xlabel="tenth of the clean test images, by confidence",
            xticks=range(1, 11),
        )
        grid(axis)
    axes[0, 0].set_ylabel("accuracy")
    axes[0, 0].legend(fontsize=9)
    figure.suptitle("Accuracy by confidence" + seeds_note(groups))
    return figure


def histograms(groups: Groups, first: Mapping[str, Features]) -> Any:
    """Fig. 9, of the linear classifier and the first seed of each method."""
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = subplots(rows, columns, 0.8 + 4.6 * columns, 0.8 + 3.6 * rows)
    for axis in axes.flat[len(groups) :]:
        axis.axis("off")
    for axis, label in zip(axes.flat, groups, strict=False):
        scores, correct = pooled(first[label], "linear", "clean")
        name = own(first[label])
        score, right = scores[name].numpy(), correct.numpy()
        edges = np.linspace(*np.percentile(score, [0.5, 99.5]), 31)
        axis.hist(score[right], edges, color="0.8", label="right")
        axis.hist(score[~right], edges, color="black", label="wrong", histtype="step")
        axis.set(title=f"{label}, seed {first[label].run.settings['seed']}", xlabel=name)
        accuracy_axis = axis.twinx()
        bins = accuracy_by_bin(score, right, edges[::3].tolist())
        there = bins.size >= 10
        shares = bins.accuracy[there]
        accuracy_axis.plot(bins.score[there], shares, "o-", color="#D55E00", label="accuracy")
        try:
            curve = logistic_regression(scores[name], correct).predict(edges)
            accuracy_axis.plot(edges, curve, ":", color="black", label="logistic regression")
        except (ValueError, RuntimeError):  # there is no finite fit
            pass
        accuracy_axis.set(ylim=(0, 1), ylabel="accuracy")
        axis.set_ylabel("images")
        legends = axis.get_legend_handles_labels(), accuracy_axis.get_legend_handles_labels()
        handles, labels = ([*a, *b] for a, b in zip(*legends, strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle("Clean images that the linear classifier\nhas right and wrong")
    return figure


def augmentations(groups: Groups, first: Mapping[str, Features]) -> Any:
    kinds = list(first[next(iter(first))]["augmentations"])
    figure, axes = subplots(1, 2, 11, 1.8 + len(kinds) * (0.25 + 0.07 * len(groups)), sharey=True)
    panels = {"over_clean": "mean, over that of the clean images",
              "below_clean": "share of draws below the clean image"}  # fmt: skip
    for axis, (key, words) in zip(axes[0], panels.items(), strict=True):
        for k, (label, g) in enumerate(groups.items()):
            name = own(first[label])
            if name == "negative entropy" and key == "over_clean":
                continue  # a ratio of negative numbers says nothing
            shown = [kind for kind in kinds if kind != "clean"]
            leaves = [g[kind][name].get(key) for kind in shown]
            shift = 0.7 * ((k + 0.5) / len(groups) - 0.5)
            places = np.arange(len(shown)) + shift
            dots(axis, leaves, places, label=f"{label}, {name}", **look(k, False))
        axis.set_yticks(range(len(shown)), shown)
        axis.set_xlabel(words)
        axis.axvline(1 if key == "over_clean" else 0.5, color="black", linewidth=1, linestyle=":")
        grid(axis)
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(groups)))
    figure.suptitle("Confidence of augmented images" + seeds_note(groups))
    return figure


def pairs(groups: Groups, first: Mapping[str, Features]) -> Any:
    """Fig. 11: the dot is the median, the line goes from the lower to the upper quartile."""
    figure, axes = subplots(1, 2, 10, 1.5 + 0.45 * len(groups), sharey=True)
    titles = {"cosine": "prediction mu and projection z", "cosine of y": "features y"}
    for axis, (key, title) in zip(axes[0], titles.items(), strict=True):
        for k, g in enumerate(groups.values()):
            ends = [g[key][side]["mean"] for side in ("lower quartile", "upper quartile")]
            axis.plot(ends, [k, k], color=look(k)["color"], linewidth=2)
            dots(axis, [g[key]["median"]], [k], **look(k, False))
        axis.set(title=title, xlabel="cosine of two views: quartiles and median")
        grid(axis)
    axes[0, 0].set_yticks(range(len(groups)), list(groups))
    axes[0, 0].set_ylim(len(groups) - 0.5, -0.5)
    return figure


def calibration(groups: Groups, first: Mapping[str, Features]) -> Any:
    figure, axes = subplots(1, 1, 6, 5.5)
    axis, drawn = axes[0, 0], 0
    for k, (label, g) in enumerate(groups.items()):
        if "expected" in g:
            x, y, drawn = g["expected"], g["observed"], drawn + 1
            text = f"{label}: {g['ece']['mean']:.3f}"
            axis.errorbar(
                x["mean"], y["mean"], yerr=error(y), xerr=error(x), capsize=2, label=text, **look(k)
            )
    if not drawn:
        return None
    low, high = axis.get_xlim()
    axis.plot([low, high], [low, high], color="0.5", linewidth=1)
    axis.set(
        title="Expected and observed cosine, by tenths" + seeds_note(groups),
        xlabel="cosine that kappa expects",
        ylabel="cosine observed between two views",
    )
    axis.legend(title="mean absolute difference", fontsize=9)
    grid(axis)
    return figure


def entropy(row: Mapping[str, Any], by_name: Mapping[str, Features]) -> Any:
    """Fig. 6, of the first pair of runs."""
    x = by_name[row["kappa"]]["test"]["clean"]["scores"]["kappa"].numpy()
    y = -by_name[row["dino"]]["test"]["clean"]["scores"]["negative entropy"].numpy()
    figure, axes = subplots(1, 1, 6, 5)
    axis = axes[0, 0]
    axis.scatter(x, y, s=6, color="0.35", alpha=0.4, linewidths=0)
    slope, intercept = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    axis.plot(ends, intercept + slope * ends, color="#D55E00", linewidth=2)
    axis.set(
        title=f"Correlation {row['correlation']:.3f} (p {row['p']:.3f}), n = {row['n']}",
        xlabel=f"kappa of {row['kappa']}",
        ylabel=f"entropy of {row['dino']}",
    )
    grid(axis)
    return figure


Figure = Callable[[Groups, Mapping[str, Features]], Any]
FIGURES: tuple[tuple[str, Figure, str], ...] = (
    ("knn", accuracy, "accuracy"),
    ("auroc", auroc, "auroc"),
    ("auroc", roc, "roc"),
    ("tenths", tenths, "tenths"),
    ("tenths", histograms, "histograms"),
    ("extremes", image_figures.extremes, "extremes"),
    ("augmentations", augmentations, "augmentations"),
    ("crops", image_figures.crops, "crops"),
    ("pairs", pairs, "pairs"),
    ("calibration", calibration, "calibration"),
)

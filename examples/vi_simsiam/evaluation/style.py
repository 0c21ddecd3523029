"""How the pictures of a report look: they can be read in grey and by the colour-blind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, from dark to light as far as neighbours go; line and marker differ, too.
COLORS = ("#000000", "#D55E00", "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#7F7F7F")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (10, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def look(k: int, line: bool = True) -> dict[str, Any]:
    """Colour, marker and line of the k-th method."""
    return {
        "color": COLORS[k % len(COLORS)],
        "marker": MARKERS[k % len(MARKERS)],
        "linestyle": LINES[k % len(LINES)] if line else "none",
    }


def subplots(rows: int, columns: int, width: float, height: float, **options: Any) -> Any:
    return plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
    )


def save(figure: Figure, path: Path) -> str:
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path.name


def error(leaf: Mapping[str, Any]) -> Any:
    """The error bar of a mean over seeds; nothing for one seed."""
    return leaf["sd"]


def dots(
    axis: Axes, leaves: Sequence[Mapping[str, Any] | None], places: Sequence[float], **options: Any
) -> None:
    """Means along x with error bars, one for each place along y."""
    there = [(leaf, place) for leaf, place in zip(leaves, places, strict=True) if leaf]
    if not there:
        return
    axis.errorbar(
        [leaf["mean"] for leaf, _ in there],
        [place for _, place in there],
        xerr=[leaf["sd"] or 0 for leaf, _ in there],
        capsize=3,
        markersize=7,
        **options,
    )


def grid(axis: Axes, which: str = "both") -> None:
    axis.grid(axis=which, alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def seeds_note(groups: Mapping[str, Any]) -> str:
    most = max(g["n"] for g in groups.values())
    return "\nerror bars: standard deviation over seeds" if most > 1 else ""

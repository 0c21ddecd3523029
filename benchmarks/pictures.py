"""The stability map and the speed map."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np


def _title(family: str) -> str:
    """The name of a class in words."""
    return " ".join(re.findall("[A-Z][a-z]*", family))


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def draw_stability(maps: dict[str, Any], file: Path) -> None:
    plt = _pyplot()
    panels = (
        ("p_value", "samples: p-value of the exact law", "RdYlGn", (-9, 0)),
        ("log_prob_nats", "log_prob: largest error, nat", "RdYlGn_r", (-6, 2)),
    )
    columns = max(len(peers) for peers in maps["families"].values())
    kinds = [(f, panel) for f in maps["families"] for panel in panels]
    figure, axes = plt.subplots(
        len(kinds),
        columns,
        figsize=(3.2 * columns + 1, 3 * len(kinds)),
        layout="constrained",
        squeeze=False,
    )
    for row, (family, (key, title, colours, (low, high))) in zip(axes, kinds, strict=True):
        peers = maps["families"][family]
        for axis in row[len(peers) :]:
            axis.set_axis_off()
        for axis, (peer, tables) in zip(row, peers.items(), strict=False):
            table = np.array(tables[key], dtype=float)  # None becomes NaN: drawn black
            floor = np.clip(table, 10.0**low, 10.0**high)
            colour_map = plt.get_cmap(colours).with_extremes(bad="black")
            image = axis.imshow(
                np.log10(floor), cmap=colour_map, vmin=low, vmax=high, origin="lower", aspect="auto"
            )
            axis.set_title(f"{peer}, {_title(family)}\n{title}", fontsize=9)
            axis.set_xticks(
                range(len(maps["kappa"])), [f"{math.log10(k):.0f}" for k in maps["kappa"]]
            )
            axis.set_yticks(range(len(maps["d"])), [str(d) for d in maps["d"]])
            axis.set_xlabel(r"$\log_{10}\kappa$")
        row[0].set_ylabel("d")
        bar = figure.colorbar(image, ax=row, pad=0.01)
        ticks = range(low, high + 1, 2 if key == "log_prob_nats" else 3)
        bar.set_ticks(list(ticks), labels=[f"$10^{{{t}}}$" for t in ticks])
    figure.suptitle(f"{maps['dtype']} arguments (black: not finite, or raises)", fontsize=11)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def draw_speed(results: dict[str, Any], file: Path) -> None:
    """Draws the time of the fastest right peer over ours, for each cell of the speed map."""
    plt = _pyplot()
    rows = [row for row in results["rows"] if row.get("map")]
    families = list(dict.fromkeys(row["family"] for row in rows))
    works = list(dict.fromkeys(row["work"] for row in rows))
    sizes_n, sizes_d = (sorted({row[key] for row in rows}) for key in ("n", "d"))
    figure, axes = plt.subplots(
        len(families),
        len(works),
        figsize=(3.3 * len(works) + 1, 3.1 * len(families)),
        layout="constrained",
        squeeze=False,
    )
    for line, family in zip(axes, families, strict=True):
        for axis, work in zip(line, works, strict=True):
            table = np.full((len(sizes_n), len(sizes_d)), np.nan)
            for row in rows:
                if (row["family"], row["work"]) != (family, work) or row["peer"] == "ours":
                    continue
                if "ratio" in row and "wrong" not in row:
                    cell = sizes_n.index(row["n"]), sizes_d.index(row["d"])
                    table[cell] = np.fmin(table[cell], row["ratio"])
            image = axis.imshow(
                np.log10(table),
                cmap=plt.get_cmap("RdYlGn").with_extremes(bad="lightgrey"),
                vmin=-1.5,
                vmax=1.5,
                origin="lower",
                aspect="auto",
            )
            for (i, j), ratio in np.ndenumerate(table):
                text = "" if np.isnan(ratio) else f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"
                axis.text(j, i, text, ha="center", va="center", fontsize=9)
            axis.set_title(f"{_title(family)}\n{work}", fontsize=9)
            axis.set_xticks(range(len(sizes_d)), [str(d) for d in sizes_d])
            axis.set_yticks(range(len(sizes_n)), [str(n) for n in sizes_n])
            axis.set_xlabel("d")
        line[0].set_ylabel("n")
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_ticks([-1, 0, 1], labels=["0.1", "1", "10"])
    figure.suptitle("Time of the fastest other over ours (grey: no other is right)", fontsize=11)
    figure.savefig(file, dpi=90)
    plt.close(figure)

"""The stability map and the speed map. Blue is good and red is bad, also for the colour-blind."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from stability import NATS, P_VALUE
from work import FAMILIES


def _title(family: str) -> str:
    """The name of a class in words."""
    return " ".join(re.findall("[A-Z][a-z]*", family))


def _where(results: dict[str, Any]) -> str:
    return f"{results['machine']}; commit {results['commit']}, {results['date']}"


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def draw_stability(maps: dict[str, Any], file: Path) -> None:
    plt = _pyplot()
    from matplotlib.colors import TwoSlopeNorm

    # Key, title, label of the bar, colours, powers of ten at the ends, and what is still right
    panels = (
        ("p_value", "samples", "p-value of the samples", "RdBu", (-9, 0), P_VALUE),
        ("log_prob_nats", "log_prob", "largest error in nats", "RdBu_r", (-6, 2), NATS),
    )
    columns = max(len(peers) for peers in maps["families"].values())
    kinds = [(f, panel) for f in maps["families"] for panel in panels]
    figure, axes = plt.subplots(
        len(kinds),
        columns,
        figsize=(3.2 * columns + 1, 2.8 * len(kinds) + 0.8),
        layout="constrained",
        squeeze=False,
    )
    for row, (family, (key, title, label, colours, (low, high), limit)) in zip(
        axes, kinds, strict=True
    ):
        peers = maps["families"][family]
        norm = TwoSlopeNorm(math.log10(limit), low, high)
        variable = r"$\rho/(1-\rho)$" if FAMILIES[family].is_bounded else r"$\kappa$"
        for axis in row[len(peers) :]:
            axis.set_axis_off()
        for axis, (peer, tables) in zip(row, peers.items(), strict=False):
            table = np.array(tables[key], dtype=float)  # None becomes NaN: drawn black
            image = axis.imshow(
                np.log10(np.clip(table, 10.0**low, 10.0**high)),
                cmap=plt.get_cmap(colours).with_extremes(bad="black"),
                norm=norm,
                origin="lower",
                aspect="auto",
            )
            wrong = table < limit if key == "p_value" else table > limit
            axis.plot(*np.nonzero(wrong)[::-1], "kx", ms=5)
            axis.set_title(f"{_title(family)}, {title}\n{peer}", fontsize=9)
            axis.set_xticks(
                range(len(maps["kappa"])), [f"{math.log10(k):.0f}" for k in maps["kappa"]]
            )
            axis.set_yticks(range(len(maps["d"])), [str(d) for d in maps["d"]])
            axis.set_xlabel(f"log10 of {variable}")
        row[0].set_ylabel("d")
        if len(peers) == 1 < columns:
            row[1].text(0.5, 0.5, "None of the others\nhas this family.", ha="center", va="center")
        bar = figure.colorbar(image, ax=row, pad=0.01, label=label)
        ticks = sorted({low, high, round(math.log10(limit))})
        bar.set_ticks(ticks, labels=[f"$10^{{{t}}}$" for t in ticks])
    figure.suptitle(
        f"{maps['dtype']} arguments; in each cell {maps['samples']} samples and "
        f"{maps['densities']} densities. Blue: right. Red, with a cross: a p-value below "
        f"{P_VALUE:g}, or an error above {NATS:g} nats.\nBlack: not finite, or an error is raised. "
        f"{_where(maps)}",
        fontsize=10,
    )
    figure.savefig(file, dpi=90)
    plt.close(figure)


def draw_speed(results: dict[str, Any], file: Path) -> None:
    """Draws the time of the fastest right peer over ours, for each cell of the speed map."""
    plt = _pyplot()
    rows = [row for row in results["rows"] if row.get("map")]
    others = [r for r in rows if r["peer"] != "ours" and "ratio" in r and "wrong" not in r]
    families = list(dict.fromkeys(row["family"] for row in others))
    alone = [f for f in dict.fromkeys(row["family"] for row in rows) if f not in families]
    works = list(dict.fromkeys(row["work"] for row in rows))
    sizes_n, sizes_d = (sorted({row[key] for row in rows}) for key in ("n", "d"))
    fastest: dict[tuple[Any, ...], Any] = {}
    for row in others:
        cell = row["family"], row["work"], row["n"], row["d"]
        if cell not in fastest or row["ratio"] < fastest[cell]["ratio"]:
            fastest[cell] = row
    letters = dict(
        zip(sorted({row["peer"] for row in fastest.values()}), "abcdefghij", strict=False)
    )
    figure, axes = plt.subplots(
        len(families),
        len(works),
        figsize=(3.3 * len(works) + 1, 3.1 * len(families) + 0.6),
        layout="constrained",
        squeeze=False,
    )
    for line, family in zip(axes, families, strict=True):
        for axis, work in zip(line, works, strict=True):
            table = np.full((len(sizes_n), len(sizes_d)), np.nan)
            for i, n in enumerate(sizes_n):
                for j, d in enumerate(sizes_d):
                    if row := fastest.get((family, work, n, d)):
                        ratio = table[i, j] = row["ratio"]
                        number = f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"
                        text = f"{number} {letters[row['peer']]}"
                        dark = abs(math.log10(ratio)) > 0.9
                        colour = "white" if dark else "black"
                        axis.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
            image = axis.imshow(
                np.log10(table),
                cmap=plt.get_cmap("RdBu").with_extremes(bad="lightgrey"),
                vmin=-1.5,
                vmax=1.5,
                origin="lower",
                aspect="auto",
            )
            axis.set_title(f"{_title(family)}\n{work}", fontsize=9)
            axis.set_xticks(range(len(sizes_d)), [str(d) for d in sizes_d])
            axis.set_yticks(range(len(sizes_n)), [str(n) for n in sizes_n])
            axis.set_xlabel("d")
        line[0].set_ylabel("n")
    bar = figure.colorbar(image, ax=axes, pad=0.01, label="time of the fastest other / ours")
    bar.set_ticks([-1, 0, 1], labels=["0.1", "1", "10"])
    names = ", ".join(f"{letter}: {peer}" for peer, letter in letters.items())
    missing = "".join(f" None of the others has {_title(family)}." for family in alone)
    figure.suptitle(
        f"Time of the fastest other package over ours: above 1, in blue, ours is faster. {names}\n"
        f"Grey: no other is right.{missing} {rows[0]['dtype']}, {rows[0]['threads']} threads, "
        f"{_where(results)}",
        fontsize=10,
    )
    figure.savefig(file, dpi=90)
    plt.close(figure)

"""What mc_infonce_synthetic.py has found, as JSON, Markdown and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from svae.report import COLORS
from vi_simsiam.markdown import cell, markdown, over_seeds, short

EXACT, WRONG = "exact", "s-vae style"
TITLES = {EXACT: "exact sampler (this package)", WRONG: "s-vae style sampler (wrong law)"}

NOTES = """Means ± standard deviations over n seeds, for 4,000 new observations. The rank
correlation (Spearman) and the median ratio compare learnt and true kappa; the second ratio is that
of the quarter with the lowest true kappa. The claimed cosine is the mean of E[mu . z] under the
learnt posteriors, and the real one is the mean of mu . z of the true latents: they are equal if the
encoder knows how right it is. KL is that from the true to the learnt posterior in nats, beside that
to the uniform distribution, which knows nothing. Even with exact samples a kappa is learnt that is
too large where the negatives of a batch are few, and one too small where the mean direction is not
learnt well; for d = 64 the two nearly cancel."""


def tables(rows: Sequence[dict], laws: Sequence[dict]) -> str:
    measures = {
        "rank_correlation": "rank correlation",
        "kappa_ratio": "learnt / true kappa",
        "kappa_ratio_low": "of the lowest quarter",
        "claimed_cosine": "claimed cosine",
        "true_cosine": "real cosine",
        "kl": "KL",
        "kl_uniform": "KL of the uniform",
    }
    learnt = []
    for d, sampler in dict.fromkeys((row["dim"], row["sampler"]) for row in rows):
        group = [row for row in rows if (row["dim"], row["sampler"]) == (d, sampler)]
        cells = [cell(over_seeds([row[key] for row in group])) for key in measures]
        learnt.append((d, TITLES[sampler], len(group), *cells))
    cosines = dict.fromkeys(row["cosine"] for row in laws)
    sampled = []
    for d in dict.fromkeys(row["dim"] for row in laws):
        mine = [row for row in laws if row["dim"] == d]
        sampled.append((d, *(f"{short(row[WRONG])} (kappa {row['kappa']:.3g})" for row in mine)))
    return f"""{markdown(("d", "sampler", "n", *measures.values()), learnt)}

E[mu . x] of 20,000 samples of the s-vae style sampler. The heads of the columns are the exact
values for the kappa in brackets.

{markdown(("d", *map(short, cosines)), sampled)}
"""


def summary(row: dict) -> str:
    return (
        f"rank correlation {row['rank_correlation']:.3f}, learnt/true kappa "
        f"{row['kappa_ratio']:.3f}, cosine {row['claimed_cosine']:.3f} claimed, "
        f"{row['true_cosine']:.3f} real, KL {row['kl']:.3f} of {row['kl_uniform']:.2f}"
    )


def picture(path: Path, rows: Sequence[dict], laws: Sequence[dict]) -> None:
    """Learnt against true kappa for each d of the first seed, and the laws of the samplers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    dims = list(dict.fromkeys(row["dim"] for row in rows))
    width = 3.1 * (len(dims) + 1)
    figure, axes = plt.subplots(1, len(dims) + 1, figsize=(width, 3.9), layout="constrained")
    style = {EXACT: (COLORS[0], "o"), WRONG: (COLORS[1], "x")}
    for axis, d in zip(axes, dims, strict=False):
        group = [row for row in rows if row["dim"] == d and row["seed"] == rows[0]["seed"]]
        for row in group:
            true, learnt = row["kappas"]
            color, marker = style[row["sampler"]]
            label = f"{row['sampler']}, rank corr. {row['rank_correlation']:.3f}"
            axis.scatter(true, learnt, s=14, c=color, marker=marker, linewidths=0.8, label=label)
        ends = [min(true), max(true)]
        axis.plot(ends, ends, "k--", linewidth=1.2, label="true")
        axis.set(xscale="log", yscale="log", title=f"d = {d}", xlabel="true kappa")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(LogLocator(subs=(1, 2, 5)))
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
            side.set_minor_formatter(NullFormatter())
        axis.legend(fontsize=7, frameon=False, loc="lower right")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("learnt kappa")
    lines = ("-", "--", "-.", ":")
    for k, d in enumerate(dims):
        mine = [row for row in laws if row["dim"] == d]
        x, y = [row["cosine"] for row in mine], [row[WRONG] for row in mine]
        axes[-1].plot(
            x, y, lines[k % 4], color=COLORS[1], marker="x", label=f"s-vae style, d = {d}"
        )
    ends = [min(x), max(x)]
    axes[-1].plot(ends, ends, color=COLORS[0], marker="o", label="exact")
    axes[-1].set(title="the samplers", xlabel="exact E[mu . x]", ylabel="mean of mu . x of samples")
    axes[-1].legend(fontsize=7, frameon=False)
    axes[-1].grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(stem: Path, results: dict) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    rows = [{k: v for k, v in row.items() if k != "kappas"} for row in results["results"]]
    kept = {**results, "results": rows}
    stem.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    text = tables(results["results"], results["laws"])
    made = f"Made by `{results['command']}` on {results['machine']['machine']}."
    stem.with_suffix(".md").write_text(f"{made}\n\n{NOTES}\n\n{text}")
    picture(stem.with_suffix(".png"), results["results"], results["laws"])

"""Tables of what views do to a confidence, and of DINO's entropy beside kappa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..markdown import Groups, cell, markdown, means, measure, short
from . import paper
from .correctness import CLASSIFIERS

NOT_KINDS = ("n", "draws", "method")


def augmentations(groups: Groups) -> str:
    kinds = [k for k in next(iter(groups.values())) if k not in NOT_KINDS]
    parts = {
        "mean, and sd over the images in brackets (each the mean of the seeds)": lambda x: (
            f"{measure(x['mean'])} ({means(x['sd'])})"
        ),
        "share of the draws in which it is below that of the clean image": lambda x: cell(
            x["below_clean"], 2
        ),
    }
    tables = []
    for words, show in parts.items():
        rows = [
            (label, name, *(show(g[kind][name]) for kind in kinds))
            for label, g in groups.items()
            for name in g["clean"]
        ]
        if words.startswith("mean"):
            theirs = (paper.AUGMENTATIONS.get(kind, "") for kind in kinds)
            rows.append(("paper, vi-simsiam", "kappa", *theirs))
        tables.append(
            f"{words.capitalize()}:\n\n{markdown(('method', 'confidence', *kinds), rows)}"
        )
    first = next(iter(groups.values()))
    n, draws = int(first["n"]["mean"]), int(first["draws"]["mean"])
    return f"{n} test images, {draws} draws of each.\n\n" + "\n\n".join(tables)


def crops(groups: Groups) -> str:
    rows = [
        (label, name, *(cell(row[c]) for c in CLASSIFIERS),
         paper.CROPS.get(name, "") if g["method"] == "vi-simsiam" else "")
        for label, g in groups.items()
        for name, row in g["accuracy"].items()
    ]  # fmt: skip
    n = int(next(iter(groups.values()))["n"]["mean"])
    headers = ("method", "features of", *CLASSIFIERS, "paper, linear; 100, 200, 500 epochs")
    averages = [
        (label, name, *(measure(row[key]) for key in ("whole image", "highest crop")),
         paper.CROPS_KAPPA if (g["method"], name) == ("vi-simsiam", "kappa") else "")
        for label, g in groups.items()
        for name, row in g["confidence"].items()
    ]  # fmt: skip
    columns = ("method", "mean of", "whole image", "highest of 30 crops", "paper")
    return (
        f"Accuracy on {n} test images; crops have .08 to 1 of the area.\n\n"
        f"{markdown(headers, rows)}\n\n{markdown(columns, averages)}"
    )


def pairs(groups: Groups) -> str:
    rows = [
        (label, key, *(cell(x) for x in g[key].values()), paper.PAIRS.get(g["method"], ""))
        for label, g in groups.items()
        for key in ("cosine", "cosine of y")
    ]
    names = ("lower quartile", "median", "upper quartile")
    n = int(next(iter(groups.values()))["n"]["mean"])
    return (
        f'{n} pairs of views, augmented as in training. "cosine" is of mu and the other view\'s z, '
        'which without a predictor is of two z; "cosine of y" is of the features.\n\n'
        + markdown(("method", "", *names, "paper"), rows)
    )


def calibration(groups: Groups) -> str:
    with_kappa = {label: g for label, g in groups.items() if "ece" in g}
    rows = [
        (label, key, *(short(x) for x in g[key]["mean"]))
        for label, g in with_kappa.items()
        for key in ("expected", "observed")
    ]
    text = markdown(("method", "cosine", *range(1, 11)), rows) + "\n\n" if rows else ""
    errors = "; ".join(f"{label}: {cell(g['ece'])}" for label, g in with_kappa.items())
    text += f"Mean absolute difference: {errors}.\n\n" if errors else ""
    order = [
        (label, name, cell(value))
        for label, g in groups.items()
        for name, value in g["correlation"].items()
    ]
    return (
        "The cosine of two views that kappa expects, kappa / (kappa + d - 1) for Power Spherical, "
        "and the observed one, by tenths of the former. No label is used.\n\n"
        + text
        + "Rank correlation of a confidence with the observed cosine:\n\n"
        + markdown(("method", "confidence", "correlation"), order)
    )


def entropy(rows: Sequence[Mapping[str, Any]]) -> str:
    table = [
        (row["dino"], row["kappa"], row["n"], short(row["correlation"]), short(row["p"]))
        for row in rows
    ]
    headers = ("run of DINO", "run with kappa", "n images", "correlation", "p, two-sided")
    return (
        "Pearson's correlation of the entropy with kappa, on clean images. The paper has "
        f"{paper.ENTROPY_AND_KAPPA} and p < .01, without a sign.\n\n{markdown(headers, table)}"
    )

"""Tables of how often answers are right, and of which confidence tells when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..markdown import Groups, cell, markdown, means, short, union, with_p
from . import paper
from .correctness import CLASSIFIERS, TESTS

FRACTIONS = ("1%", "10%")


def accuracy(groups: Groups) -> str:
    kinds = list(next(iter(groups.values()))["accuracy"])
    return markdown(
        ("method", "n images", *kinds),
        [
            (label, int(g["n"]["mean"]), *(cell(g["accuracy"][kind]) for kind in kinds))
            for label, g in groups.items()
        ],
    )


def knn(groups: Groups) -> str:
    chosen = [f"{label}: {cell(g['k'], 0)}" for label, g in groups.items()]
    return f"{accuracy(groups)}\n\nk, tuned on a held-out fifth: {'; '.join(chosen)}."


def linear(groups: Groups) -> str:
    best = [
        f"{label}: {cell(g['best_epoch'], 0)} of {int(g['epochs']['mean'])}"
        for label, g in groups.items()
    ]
    theirs = [
        f"{name} {where} {figures[name]}"
        for name in dict.fromkeys(g["method"] for g in groups.values())
        for where, figures in (("", paper.LINEAR), ("(CIFAR-10)", paper.LINEAR_CIFAR10))
        if name in figures
    ]
    paper_words = f" The paper, by epochs of pre-training: {'; '.join(theirs)}." if theirs else ""
    return f"{accuracy(groups)}\n\nBest epoch: {'; '.join(best)}.{paper_words}"


def auroc(groups: Groups) -> str:
    rows = []
    for label, g in groups.items():
        for name in union(g, *((c, t, "confidences") for c in CLASSIFIERS for t in TESTS)):
            cells = [
                with_p(g[c][t]["confidences"].get(name, {}), "auroc")
                for t in TESTS
                for c in CLASSIFIERS
            ]
            theirs = paper.AUROC.get((g["method"], name), ("", ""))
            rows.append((label, name, *cells, *theirs))
    columns = [f"{c}, {t}" for t in TESTS for c in CLASSIFIERS]
    names = [f"paper, {c}" for c in CLASSIFIERS]
    first = next(iter(groups.values()))
    spreads = [
        f"{c}, {t} {short(first[c][t]['chance_sd']['mean'])}"
        for t in TESTS
        for c in CLASSIFIERS
        if "chance_sd" in first[c][t]
    ]
    table = markdown(("method", "confidence", *columns, *names), rows)
    sds = f"Standard deviation of a random confidence in one run: {', '.join(spreads)}."
    return f"{table}\n\n{sds}"


def augrc(groups: Groups) -> str:
    rows = []
    for label, g in groups.items():
        tests = [g[c][t] for t in TESTS for c in CLASSIFIERS]
        names = union(g, *((c, t, "confidences") for c in CLASSIFIERS for t in TESTS))
        rows += [
            (label, name, *(cell(t["confidences"].get(name), 4) for t in tests)) for name in names
        ]
        rows += [
            (label, f"a {name} one", *(cell(t[name], 4) for t in tests))
            for name in ("random", "perfect")
        ]
    words = (
        "The area under the generalised risk-coverage curve (Traub et al. 2024): the share of all "
        "images that are answered and wrong, averaged over every threshold. Lower is better."
    )
    columns = [f"{c}, {t}" for t in TESTS for c in CLASSIFIERS]
    return f"{words}\n\n{markdown(('method', 'confidence', *columns), rows)}"


def tenths(groups: Groups) -> str:
    parts = []
    for c in CLASSIFIERS:
        rows = []
        for label, g in groups.items():
            for name, row in g[c].items():
                accuracy = row["accuracy"]["mean"]
                cells = [short(a, 2) for a in accuracy]
                rows.append((label, name, *cells, with_p(row, "slope", 2)))
        headers = ("method", "confidence", "lowest", *range(2, 10), "highest", "logistic slope")
        parts.append(f"Accuracy of {c} on clean images by tenths of the confidence, and the "
                     f"logistic slope for one standard deviation (paper: positive, p < .01).\n\n"
                     f"{markdown(headers, rows)}")  # fmt: skip
    parts.append("Mean ± standard deviation over the clean images that a classifier has right and "
                 f"wrong, averaged over the seeds:\n\n{right_and_wrong(groups)}")  # fmt: skip
    return "\n\n".join(parts)


def right_and_wrong(groups: Groups) -> str:
    rows = []
    for label, g in groups.items():
        for name in union(g, *((c,) for c in CLASSIFIERS)):
            cells = [
                with_sd(g[c].get(name, {}).get(key, {}))
                for c in CLASSIFIERS
                for key in ("right", "wrong")
            ]
            rows.append((label, name, *cells, paper.RIGHT_AND_WRONG.get((g["method"], name), "")))
    columns = [f"{c}, {key}" for c in CLASSIFIERS for key in ("right", "wrong")]
    return markdown(("method", "confidence", *columns, "paper, linear"), rows)


def with_sd(spread: Mapping[str, Any]) -> str:
    """A mean and the standard deviation over the images, each averaged over the seeds."""
    if "mean" not in spread or "sd" not in spread:
        return ""
    return f"{means(spread['mean'])} ± {means(spread['sd'])}"


def extremes(groups: Groups) -> str:
    rows = [
        (label, name, cell(g[name]["highest"]), cell(g[name]["lowest"]))
        for label, g in groups.items()
        for name in g
        if isinstance(g[name], Mapping) and "highest" in g[name]
    ]
    headers = ("method", "confidence", "highest 1 %", "lowest 1 %")
    return f"kNN accuracy on the clean images of these.\n\n{markdown(headers, rows)}"


def r_auroc(groups: Groups) -> str:
    return by_set(groups, "recall at 1")


def ood(groups: Groups) -> str:
    words = "AUROC of telling the run's own test images from those of another data set.\n\n"
    return words + by_set(groups)


def by_set(groups: Groups, *extra: str) -> str:
    """Rows by confidence, columns by data set."""
    first = next(iter(groups.values()))
    names = [name for name, x in first.items() if isinstance(x, Mapping) and "confidences" in x]
    rows = []
    for label, g in groups.items():
        rows += [(label, key, *(cell(g[name][key]) for name in names)) for key in extra]
        rows += [
            (label, c, *(with_p(g[name]["confidences"][c], "auroc") for name in names))
            for c in g[names[0]]["confidences"]
        ]
    return markdown(("method", "", *names), rows)


def transfer(groups: Groups) -> str:
    first = next(iter(groups.values()))
    names = [name for name, x in first.items() if isinstance(x, Mapping) and "n_train" in x]
    rows = [
        (label, *(cell(g[name][c]) for name in names for c in CLASSIFIERS),
         paper.TRANSFER.get(g["method"], ""))
        for label, g in groups.items()
    ]  # fmt: skip
    columns = [f"{name}, {c}" for name in names for c in CLASSIFIERS]
    last = "paper, linear: Flowers Food DTD Aircraft SUN397 Pet Cars"
    return markdown(("method", *columns, last), rows)


def few_labels(groups: Groups) -> str:
    return fine_tuned(groups, lambda g: paper.FEW_LABELS.get(g["method"], ("", "")))


def scratch(groups: Groups) -> str:
    return fine_tuned(groups, lambda g: paper.FEW_LABELS["scratch"])


def fine_tuned(groups: Groups, theirs: Callable[[Mapping[str, Any]], tuple[str, str]]) -> str:
    rows = [
        (label, int(g["epochs"]["mean"]),
         *(f"{cell(g[f]['accuracy'])} ({int(g[f]['labels']['mean'])} labels)" for f in FRACTIONS),
         *theirs(g))
        for label, g in groups.items()
    ]  # fmt: skip
    columns = ("encoder", "epochs", *FRACTIONS, *(f"paper, {f}" for f in FRACTIONS))
    return markdown(columns, rows)

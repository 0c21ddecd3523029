"""The report's Markdown: one function for each section, from the groups of report.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from . import paper
from .correctness import CLASSIFIERS, TESTS

Groups = Mapping[str, Mapping[str, Any]]

INTRODUCTION = """Figures are means ± standard deviations over the n seeds of a method; without ± there
is one seed. A p is that of a permutation test of one run, the largest of the seeds. "damaged" is
every test image under every kind of damage, and clean, together; its p takes the copies of an image
for independent. Chance is an AUROC of .5. The paper's figures are of ResNet-18 on ImageNet100."""


def document(report: Mapping[str, Any], pictures: Mapping[str, Sequence[str]]) -> str:
    """report.md; ``pictures`` are file names by section."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"# Evaluation on {report['data']}",
        f"Made by `{report['command']}` on {report['machine']}, {report['threads']} threads, "
        f"{versions}.",
        INTRODUCTION,
        markdown(("method", "n", "seeds", "steps", "runs"), [
            (label, g["n"], " ".join(map(str, g["seeds"])),
             report["runs"][g["runs"][0]]["step"], ", ".join(g["runs"]))
            for label, g in report["groups"].items()
        ]),
    ]  # fmt: skip
    for name, section in sections(report):
        lines.append(section)
        lines += [f"![{name}]({picture})" for picture in pictures.get(name, ())]
    return "\n\n".join(lines) + "\n"


def text(report: Mapping[str, Any]) -> str:
    """The tables alone."""
    return "\n\n".join(section for _, section in sections(report))


def sections(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, (title, table) in TABLES.items():
        groups = {
            label: {**g["sections"][name], "method": method(report, g), "n_runs": g["n"]}
            for label, g in report["groups"].items()
            if name in g["sections"]
        }
        if groups:
            yield name, f"## {title}\n\n{table(groups)}"
    if report.get("entropy"):
        yield "entropy", f"## Entropy of DINO and kappa (Fig. 6)\n\n{entropy(report['entropy'])}"


def method(report: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    return report["runs"][group["runs"][0]]["method"]


def markdown(headers: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def cell(leaf: Any, digits: int = 3) -> str:
    """A mean, with its standard deviation where there are several seeds."""
    if not leaf:
        return ""
    mean = short(leaf["mean"], digits)
    return mean if leaf["sd"] is None else f"{mean} ± {short(leaf['sd'], digits)}"


def short(x: float, digits: int = 3) -> str:
    """Without the zero before the point."""
    words = f"{x:.{digits}f}"
    return words.replace("0.", ".", 1) if abs(x) < 1 and digits else words


def measure(leaf: Any) -> str:
    """A number of any size, with three digits or more."""
    if not leaf:
        return ""
    size = abs(leaf["mean"])
    return cell(leaf, 1 if size >= 100 else 2 if size >= 10 else 3)


def with_p(leaf: Mapping[str, Any], value: str, digits: int = 3) -> str:
    if not leaf or value not in leaf or "p" not in leaf:
        return ""
    return f"{cell(leaf[value], digits)} ({p_words(max(leaf['p']['values']))})"


def p_words(p: float) -> str:
    return f"p {short(p, 3)}"


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
    sds = [f"{column} {short(first[c][t]['chance_sd']['mean'])}"
           for column, (t, c) in zip(columns, ((t, c) for t in TESTS for c in CLASSIFIERS),
                                     strict=True)
           if "chance_sd" in first[c][t]]  # fmt: skip
    table = markdown(("method", "confidence", *columns, *names), rows)
    return (
        f"{table}\n\nStandard deviation of a random confidence in one run: {', '.join(sds)}.\n\n"
        f"Mean ± standard deviation over the clean images that a classifier has right and wrong, "
        f"averaged over the seeds (Table 4):\n\n{right_and_wrong(groups)}"
    )


def right_and_wrong(groups: Groups) -> str:
    rows = []
    for label, g in groups.items():
        for name in union(g, *((c, "clean", "confidences") for c in CLASSIFIERS)):
            cells = []
            for c in CLASSIFIERS:
                part = g[c]["clean"]["confidences"].get(name, {})
                for key in ("right", "wrong"):
                    spread = part.get(key, {})
                    has = "mean" in spread and "sd" in spread
                    cells.append(
                        f"{means(spread['mean'])} ± {means(spread['sd'])}" if has else ""
                    )
            rows.append((label, name, *cells, paper.RIGHT_AND_WRONG.get((g["method"], name), "")))
    columns = [f"{c}, {key}" for c in CLASSIFIERS for key in ("right", "wrong")]
    return markdown(("method", "confidence", *columns, "paper, linear"), rows)


def means(leaf: Mapping[str, Any]) -> str:
    return measure({**leaf, "sd": None})


def union(group: Mapping[str, Any], *paths: tuple[str, ...]) -> list[str]:
    names: dict[str, None] = {}
    for path in paths:
        part: Any = group
        for key in path:
            part = part[key]
        names |= dict.fromkeys(part)
    return list(names)


def tenths(groups: Groups) -> str:
    parts = []
    for c in CLASSIFIERS:
        rows = []
        for label, g in groups.items():
            for name, row in g[c].items():
                accuracy = row.get("accuracy", {"mean": []})["mean"]
                cells = [short(a, 2) for a in accuracy] or [""] * 10
                rows.append((label, name, *cells, with_p(row, "slope", 2)))
        headers = ("method", "confidence", "lowest", *range(2, 10), "highest", "logistic slope")
        parts.append(f"Accuracy of {c} on clean images by tenths of the confidence, and the "
                     f"logistic slope for one standard deviation (paper: positive, p < .01).\n\n"
                     f"{markdown(headers, rows)}")  # fmt: skip
    return "\n\n".join(parts)


def extremes(groups: Groups) -> str:
    rows = [
        (label, name, cell(g[name]["highest"]), cell(g[name]["lowest"]))
        for label, g in groups.items()
        for name in g
        if isinstance(g[name], Mapping) and "highest" in g[name]
    ]
    headers = ("method", "confidence", "highest 1 %", "lowest 1 %")
    return f"kNN accuracy on the clean images of these.\n\n{markdown(headers, rows)}"


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
        tables.append(f"{words.capitalize()}:\n\n{markdown(('method', 'confidence', *kinds), rows)}")
    first = next(iter(groups.values()))
    n, draws = int(first["n"]["mean"]), int(first["draws"]["mean"])
    return f"{n} test images, {draws} draws of each.\n\n" + "\n\n".join(tables)


NOT_KINDS = ("n", "draws", "method", "n_runs")


def crops(groups: Groups) -> str:
    rows = [
        (label, name, *(cell(row[c]) for c in CLASSIFIERS),
         paper.CROPS.get(name, "") if g["method"] == "vi-simsiam" else "")
        for label, g in groups.items()
        for name, row in g["accuracy"].items()
    ]  # fmt: skip
    n = int(next(iter(groups.values()))["n"]["mean"])
    headers = ("method", "features of", *CLASSIFIERS, "paper, linear; 100, 200, 500 epochs")
    return f"Accuracy on {n} test images; crops have .08 to 1 of the area.\n\n" + markdown(
        headers, rows
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


FRACTIONS = ("1%", "10%")


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


TABLES: dict[str, tuple[str, Callable[[Groups], str]]] = {
    "knn": ("kNN accuracy", knn),
    "linear": ("Linear evaluation (Tables 2, 6, 9)", linear),
    "auroc": ("AUROC of telling right from wrong answers (Figs. 4, 5)", auroc),
    "tenths": ("Accuracy by confidence (Fig. 9)", tenths),
    "extremes": ("The highest and the lowest hundredth (Figs. 1, 10, 12, 13)", extremes),
    "augmentations": ("Confidence of augmented images (Table 3)", augmentations),
    "crops": ("The surest of 30 crops, and weighted means (Table 5)", crops),
    "pairs": ("Cosine of two views (Fig. 11)", pairs),
    "calibration": ("Calibration without labels", calibration),
    "r-auroc": ("R-AUROC", r_auroc),
    "ood": ("Other data sets as out of distribution", ood),
    "transfer": ("Transfer to other data sets (Table 7)", transfer),
    "few-labels": ("Fine-tuning with few labels (Table 8)", few_labels),
    "scratch": ("The same from random weights (Table 8)", scratch),
}

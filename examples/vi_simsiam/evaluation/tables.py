"""The report's Markdown, made from the groups of report.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..markdown import Groups, markdown
from . import tables_of_answers as answers
from . import tables_of_views as views

INTRODUCTION = """Figures are means ± standard deviations over the n seeds of a method; without ±
there is one seed. A p is that of a permutation test of one run, the largest of the seeds. "damaged"
is every test image under every kind of damage, and clean, together; its p takes the copies of an
image for independent. Chance is an AUROC of .5. The paper's figures are of ResNet-18 on
ImageNet100."""


def document(report: Mapping[str, Any], pictures: Mapping[str, Sequence[str]]) -> str:
    """report.md; ``pictures`` are file names by section."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"# Evaluation on {report['data']}",
        f"Made by `{report['command']}` on {report['machine']}, {report['threads']} threads, "
        f"{versions}.",
        INTRODUCTION,
        groups_table(report),
    ]
    for name, section in sections(report):
        lines.append(section)
        lines += [f"![{name}]({picture})" for picture in pictures.get(name, ())]
    return "\n\n".join(lines) + "\n"


def text(report: Mapping[str, Any]) -> str:
    """The tables alone."""
    return "\n\n".join([groups_table(report), *(section for _, section in sections(report))])


def groups_table(report: Mapping[str, Any]) -> str:
    rows = []
    for label, g in report["groups"].items():
        steps = report["runs"][g["runs"][0]]["step"]
        seeds = " ".join(map(str, g["seeds"]))
        rows.append((label, g["n"], seeds, steps, ", ".join(g["runs"])))
    return markdown(("method", "n", "seeds", "steps", "runs"), rows)


def sections(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, (title, table) in TABLES.items():
        groups = {
            label: {**g["sections"][name], "method": method(report, g)}
            for label, g in report["groups"].items()
            if name in g["sections"]
        }
        if groups:
            yield name, f"## {title}\n\n{table(groups)}"
    if report.get("entropy"):
        table = views.entropy(report["entropy"])
        yield "entropy", f"## Entropy of DINO and kappa (Fig. 6)\n\n{table}"


def method(report: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    return report["runs"][group["runs"][0]]["method"]


TABLES: dict[str, tuple[str, Callable[[Groups], str]]] = {
    "knn": ("kNN accuracy", answers.knn),
    "linear": ("Linear evaluation (Tables 2, 6, 9)", answers.linear),
    "auroc": ("AUROC of telling right from wrong answers (Figs. 4, 5)", answers.auroc),
    "augrc": ("AUGRC, the errors that a confidence lets through", answers.augrc),
    "tenths": ("Accuracy by confidence (Fig. 9, Table 4)", answers.tenths),
    "extremes": ("The highest and the lowest hundredth (Figs. 1, 10, 12, 13)", answers.extremes),
    "augmentations": ("Confidence of augmented images (Table 3)", views.augmentations),
    "crops": ("The surest of 30 crops, and weighted means (Table 5)", views.crops),
    "pairs": ("Cosine of two views (Fig. 11)", views.pairs),
    "calibration": ("Calibration without labels", views.calibration),
    "r-auroc": ("R-AUROC", answers.r_auroc),
    "ood": ("Other data sets as out of distribution", answers.ood),
    "transfer": ("Transfer to other data sets (Table 7)", answers.transfer),
    "few-labels": ("Fine-tuning with few labels (Table 8)", answers.few_labels),
    "scratch": ("The same from random weights (Table 8)", answers.scratch),
}

"""Compare the uncertainties of all methods, for docs/uncertainty.md: its tables and its picture.

    python examples/claims.py table uncertainty --jobs 2               # trains them
    python examples/evaluate.py \\
        runs/claims/{vi-simsiam,simsiam,simclr,vi-simclr,dino,barlow-twins}-{0,1,2} \\
        runs/claims/{mc-infonce,elk,hib}-{0,1,2} \\
        --only knn auroc augrc augmentations calibration r-auroc ood --out runs/uncertainty
    python examples/step_cost.py --data fashion-mnist --out runs/step_cost.json
    python examples/uncertainty.py runs/uncertainty/report.json runs/step_cost.json
    python examples/uncertainty.py                                     # prints the tables again

The fourth command gathers what the second and the third have measured in the file --results, and
draws a picture beside it. There every number is {"mean", "sd", "values"}, over the seeds:

    data, evaluation    the data set; the command, machine, versions and sizes
    cost       command, machine and versions, and as results the steps of all methods
    methods    METHOD -> n, seeds, own (the confidence of the method itself), accuracy, recall at 1,
               AUGRC of a random and of a perfect confidence, calibration error of kappa without
               labels, and confidences
    confidences    NAME -> the columns of the table; a column is missing where it has no value
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import step_cost
from claims import CONFIDENCES
from evaluate import as_json
from vi_simsiam.evaluation.correctness import CLASSIFIERS
from vi_simsiam.evaluation.style import dots, grid, look, save, subplots
from vi_simsiam.markdown import cell, markdown
from vi_simsiam.options import Parser

RESULTS = Path(__file__).parent / "results" / "uncertainty.json"
NEAREST, VOTE = "nearest similarity", CLASSIFIERS["knn"]
FREE = ("norm of z", NEAREST, VOTE)
UNSEEN = "mnist"  # the data set that no network was trained on
CROP = "crop 0.05-0.2"
MADE_BY = ("command", "machine", "threads", "load_average", "versions")
COLUMNS = {  # of a confidence: where report.json has it, with NAME for the confidence
    "R-AUROC": ("r-auroc", "DATA", "confidences", "NAME", "auroc"),
    "AUROC, clean": ("auroc", "knn", "clean", "confidences", "NAME", "auroc"),
    "AUROC, damaged": ("auroc", "knn", "damaged", "confidences", "NAME", "auroc"),
    "AUGRC, clean": ("augrc", "knn", "clean", "confidences", "NAME"),
    "AUGRC, damaged": ("augrc", "knn", "damaged", "confidences", "NAME"),
    "OOD": ("ood", UNSEEN, "confidences", "NAME", "auroc"),
    "R-AUROC, unseen": ("r-auroc", UNSEEN, "confidences", "NAME", "auroc"),
    "crop": ("augmentations", CROP, "NAME", "below_clean"),
    "two views": ("calibration", "correlation", "NAME"),
}
MAIN = ("R-AUROC", "AUROC, clean", "AUROC, damaged", "AUGRC, clean", "AUGRC, damaged", "OOD")
FURTHER = ("R-AUROC, unseen", "crop", "two views")
LOWER_IS_BETTER = ("AUGRC, clean", "AUGRC, damaged")


def gathered(report: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """What examples/results/uncertainty.json holds."""
    methods = {}
    for label, group in report["groups"].items():
        sections = group["sections"]
        names = sections["auroc"]["knn"]["clean"]["confidences"]
        confidences = {
            name: {
                column: leaf
                for column, path in COLUMNS.items()
                if (leaf := at(sections, path, NAME=name, DATA=report["data"]))
            }
            for name in names
        }
        methods[label] = {
            "n": group["n"],
            "seeds": group["seeds"],
            "own": next(name for name in CONFIDENCES if name in names),
            "accuracy": sections["knn"]["accuracy"]["clean"],
            "accuracy, damaged": sections["knn"]["accuracy"]["damaged"],
            "recall at 1": {
                name: sections["r-auroc"][name]["recall at 1"] for name in (report["data"], UNSEEN)
            },
            "AUGRC": {
                test: {kind: sections["augrc"]["knn"][test][kind] for kind in ("random", "perfect")}
                for test in ("clean", "damaged")
            },
            "calibration error": sections["calibration"].get("ece"),
            "confidences": confidences,
        }
    return {
        "data": report["data"],
        "evaluation": {key: report[key] for key in MADE_BY} | {"sizes": report["sizes"]},
        "cost": dict(cost),
        "methods": methods,
    }


def at(tree: Any, path: tuple[str, ...], **names: str) -> Any:
    """What stands at the end of a path; None if the path ends before."""
    for key in path:
        if tree is None:
            return None
        tree = tree.get(names.get(key, key))
    return tree


def table(results: Mapping[str, Any], columns: tuple[str, ...], cost: bool) -> str:
    """A row for the confidence of each method itself, and below it the free ones of its encoder.
    The best figure of each method in a column is bold."""
    steps = {row["method"]: f"{row['over_simsiam']:.2f}" for row in results["cost"]["results"]}
    last = ["cost of a step"] if cost else []
    head = ("method", "n", "accuracy", "uncertainty", *columns, *last)
    rows = []
    for label, method in results["methods"].items():
        names = list(dict.fromkeys((method["own"], *FREE)))
        best = {}
        for column in columns:
            means = {
                name: leaf["mean"]
                for name in names
                if (leaf := method["confidences"][name].get(column))
            }
            best[column] = (min if column in LOWER_IS_BETTER else max)(means, key=means.__getitem__)
        for name in names:
            first = name == method["own"]
            numbers = [
                bold(cell(method["confidences"][name].get(column)), best[column] == name)
                for column in columns
            ]
            about = (label, method["n"], cell(method["accuracy"])) if first else ("", "", "")
            step = [steps[label.partition(",")[0]] if first else ""] if cost else []
            rows.append((*about, name, *numbers, *step))
    return markdown(head, rows)


def bold(words: str, best: bool) -> str:
    return f"**{words}**" if best else words


def tables(results: Mapping[str, Any]) -> str:
    parts = (table(results, MAIN, True), table(results, FURTHER, False))
    return "\n\n".join([*parts, step_cost.table(results["cost"]["results"])])


def picture(results: Mapping[str, Any], path: Path) -> None:
    """The methods' own confidences beside the free ones of the same encoders."""
    methods = results["methods"]
    panels = ("R-AUROC", "AUROC, clean", "AUROC, damaged", "OOD", "R-AUROC, unseen")
    figure, axes = subplots(1, len(panels), 15, 1.7 + 0.5 * len(methods), sharey=True)
    for axis, column in zip(axes[0], panels, strict=True):
        for k, name in enumerate(("the method's own", *FREE[1:])):
            leaves = [
                m["confidences"][name if k else m["own"]].get(column) for m in methods.values()
            ]
            places = [i + 0.22 * (k - 1) for i in range(len(methods))]
            dots(axis, leaves, places, label=name, **look(k, False))
        axis.axvline(0.5, color="black", linewidth=1, linestyle=":")
        axis.set(title=column, xlim=(0, 1))
        axis.set_yticks(range(len(methods)), [f"{m} ({x['own']})" for m, x in methods.items()])
        axis.set_yticks([i + 0.5 for i in range(len(methods) - 1)], minor=True)
        axis.tick_params(axis="y", which="both", length=0)
        axis.grid(axis="y", which="minor", color="0.6", linewidth=0.8)
        grid(axis, "x")
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    axes[0, 2].set_xlabel("chance is .5; error bars: standard deviation over the seeds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("report", nargs="?", type=Path, help="report.json of evaluate.py")
    add("cost", nargs="?", type=Path, help="the file of step_cost.py --out")
    add("--results", type=Path, default=RESULTS, metavar="FILE", help="read and written")
    args = parser.parse_args(argv)
    if args.report and not args.cost:
        parser.error("a report needs a file of step_cost.py beside it")
    try:
        if args.report:
            report, cost = (json.loads(path.read_text()) for path in (args.report, args.cost))
            args.results.write_text(as_json(gathered(report, cost)))
        results = json.loads(args.results.read_text())
        print(tables(results))
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        files = f"{args.report}, {args.cost}" if args.report else args.results
        parser.error(f"{files}: not the results of these programs ({error!r})")
    if args.report:
        picture(results, args.results.with_suffix(".png"))


if __name__ == "__main__":
    main()

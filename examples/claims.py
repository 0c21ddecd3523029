"""Train the networks of docs/claims.md and docs/uncertainty.md.

    python examples/claims.py --jobs 2             # 54 trainings, in folders below runs/claims
    python examples/claims.py table --jobs 2       # one study alone
    python examples/evaluate.py runs/claims/*-* --out runs/claims-report    # then evaluate them
    python examples/claims.py --summary runs/claims-report/report.json --results claims.json
    python examples/claims.py --summary examples/results/claims.json    # the table of README.md

docs/claims.md tests the claims of the VI-SimSiam paper, and docs/uncertainty.md compares the
uncertainties of all methods. All train the quick preset's network on Fashion-MNIST with the seeds
0, 1 and 2. The studies are:

    table        every method of the paper's Table 1, and VI-SimCLR, 4 epochs
    schedule     VI-SimSiam and SimSiam under a cosine for 1 and 8 epochs, and under a constant
                 learning rate for 8 epochs, of which the state after 1 and 4 epochs is kept
    beta         VI-SimSiam with the weight kappa^-1 of the cosine or of the loss, and with
                 kappa^-0.5 of the loss, 8 epochs
    uncertainty  MCInfoNCE, ELK and HIB, 4 epochs; examples/uncertainty.py compares them with table

--results writes a short form of the report, such as the ones in examples/results.

One training takes about 25 seconds an epoch on one CPU core. A study goes on where it stopped: a
folder that has results.json is finished.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evaluate import as_json
from vi_simsiam.data import FASHION_MNIST
from vi_simsiam.markdown import cell, markdown
from vi_simsiam.options import Parser, number

RUNS = Path("runs") / "claims"
SEEDS = (0, 1, 2)
STEPS_PER_EPOCH = 468
TABLE_1 = ("vi-simsiam", "simsiam", "simclr", "vi-simclr", "dino", "barlow-twins")
STOCHASTIC = ("mc-infonce", "elk", "hib")
TRAIN = Path(__file__).with_name("train_vi_simsiam.py")
# A method's own confidence is the first of these that it has.
CONFIDENCES = ("kappa", "negative entropy", "norm of mu", "norm of z")
STUDIES: dict[str, dict[str, str]] = {  # name of a run: its options
    "table": {method: f"--method {method}" for method in TABLE_1},
    "schedule": {
        f"{method}-{schedule}-{n}": f"--method {method} --schedule {schedule} --epochs {n}"
        for schedule, n in (("cosine", 1), ("constant", 8), ("cosine", 8))
        for method in ("vi-simsiam", "simsiam")
    },
    "beta": {
        f"vi-simsiam-{name}": f"--method vi-simsiam --beta {beta} --beta-weighs {weighs} --epochs 8"
        for name, beta, weighs in (
            ("beta-cosine", 1, "cosine"),
            ("beta-loss", 1, "loss"),
            ("half-beta-loss", 0.5, "loss"),
        )
    },
    "uncertainty": {method: f"--method {method}" for method in STOCHASTIC},
}


def train(name: str, options: str, seed: int, root: Path) -> int:
    """Trains one network; returns the exit status of the training."""
    folder = RUNS / f"{name}-{seed}"
    command = [sys.executable, str(TRAIN), "--data", "fashion-mnist", "--root", str(root)]
    command += [*shlex.split(options), "--seed", str(seed), "--out", str(folder), "--resume"]
    kept = (1, 4) if "constant" in name else ()
    for epochs in kept:
        snapshot = RUNS / f"{name.rpartition('-')[0]}-{epochs}-{seed}"
        if not snapshot.exists():
            stopped = subprocess.run([*command, "--stop-after", str(epochs * STEPS_PER_EPOCH)])
            if stopped.returncode:
                return stopped.returncode
            shutil.copytree(folder, snapshot)
    return subprocess.run(command).returncode


def shortened(report: dict[str, Any]) -> dict[str, Any]:
    """A report without its ROC curves, and without the sections of runs, which it has by groups."""
    runs = {
        name: {key: value for key, value in run.items() if key != "sections"}
        for name, run in report["runs"].items()
    }
    return {**report, "runs": runs, "groups": without_curves(report["groups"])}


def without_curves(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    curves = ("false_positive_rates", "true_positive_rates")
    return {key: without_curves(value) for key, value in tree.items() if key not in curves}


def summary(report: dict[str, Any]) -> str:
    """The accuracy of each method, and how well its own confidence and the nearest similarity tell
    right from wrong answers of the kNN classifier."""
    accuracies, aurocs = ("kNN", "linear", "kNN, damaged"), ("AUROC, clean", "AUROC, damaged")
    head = ("method", "n", *accuracies, "its confidence", *aurocs, "nearest similarity, damaged")
    rows = []
    for label, group in report["groups"].items():
        sections = group["sections"]
        knn, linear = (sections[name]["accuracy"] for name in ("knn", "linear"))
        clean, damaged = (
            sections["auroc"]["knn"][kind]["confidences"] for kind in ("clean", "damaged")
        )
        own = next(name for name in CONFIDENCES if name in clean)
        numbers = [clean[own], damaged[own], damaged["nearest similarity"]]
        accuracy = map(cell, (knn["clean"], linear["clean"], knn["damaged"]))
        rows.append((label, group["n"], *accuracy, own, *(cell(x["auroc"]) for x in numbers)))
    return markdown(head, rows)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("study", nargs="*", help=f"of {', '.join(STUDIES)}; all if none is named")
    add("--jobs", type=number(1), default=1, help="trainings at a time, on a core each (default 1)")
    default = next((path for path in FASHION_MNIST if path.is_dir()), FASHION_MNIST[0])
    add("--root", type=Path, default=default, help=f"folder of Fashion-MNIST (default {default})")
    add("--summary", type=Path, metavar="REPORT", help="print a table of this report.json")
    add("--results", type=Path, metavar="FILE", help="write a short form of --summary there")
    args = parser.parse_args(argv)
    if args.summary:
        try:
            report = json.loads(args.summary.read_text())
            print(summary(report))
            short = as_json(shortened(report))
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            parser.error(f"--summary {args.summary}: not a report of evaluate.py ({error!r})")
        if args.results:
            args.results.write_text(short)
        return
    if args.results:
        parser.error("--results is a short form of the report that --summary names")
    unknown = set(args.study) - set(STUDIES)
    if unknown:
        parser.error(f"study must be of {', '.join(STUDIES)}, got {', '.join(sorted(unknown))}")
    if not args.root.is_dir():
        parser.error(f"--root {args.root}: no such folder; make fashion-mnist fetches the data")
    todo = [
        (name, options, seed, args.root)
        for study in args.study or STUDIES
        for seed in SEEDS
        for name, options in STUDIES[study].items()
        if not (RUNS / f"{name}-{seed}" / "results.json").exists()
    ]
    print(f"{len(todo)} trainings in folders below {RUNS}, {args.jobs} at a time", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        failed = sum(status != 0 for status in pool.map(lambda run: train(*run), todo))
    if failed:
        sys.exit(f"{failed} of {len(todo)} trainings failed; the reasons are above")


if __name__ == "__main__":
    main()

"""Evaluate runs of train_vi_simsiam.py as the VI-SimSiam paper does, and write one report.

    python examples/evaluate.py runs/vi-simsiam-mnist-0
    python examples/evaluate.py runs/{vi-simsiam,simsiam,dino}-mnist-{0,1,2}     # means over seeds
    python examples/evaluate.py runs/vi-simsiam-mnist-0 --only knn auroc
    python examples/evaluate.py runs/vi-simsiam-mnist-0 --only few-labels        # fine-tuning
    python examples/evaluate.py runs/* --data-root /path/to/the/data --device cuda

Runs that differ in the seed alone form one group, of which the report gives the mean, the standard
deviation over n seeds, and n. All runs must be of the same data. Beside kappa stand the confidences
that cost nothing: the norms of y, z and mu, the similarity of the nearest neighbour, and the
classifier's own. Where the paper has a figure, it stands beside ours.

    knn, linear      accuracy on clean and damaged images       Tables 2, 6, 9; Appendix B
    auroc            does a confidence tell right from wrong?   Figs. 4, 5; Appendix J
    augrc            errors among the answers it lets through   (Traub et al. 2024)
    tenths           accuracy by confidence, and logistic fit   Fig. 9, Table 4
    extremes         the surest and least sure images           Figs. 1, 10, 12, 13
    augmentations    confidences of augmented images            Table 3
    crops            the surest of 30 crops, and weighted means Table 5, Fig. 7
    pairs            cosine of two views of an image            Fig. 11
    calibration      that cosine and the one kappa expects
    entropy          DINO's entropy and kappa of other runs     Fig. 6
    r-auroc, ood     retrieval, and images of other data sets   (Kirchhof et al. 2023)
    transfer         frozen features on other data sets         Table 7
    few-labels       fine-tuning with 1 % and 10 % of labels    Table 8; by name only
    scratch          the same from random weights               Table 8; by name only

The folder --out receives report.md, its pictures, and report.json:

    command, machine, data, sizes
    runs     NAME -> method, seed, step, settings, checkpoint (SHA-256), sections -> numbers
    groups   LABEL -> n, seeds, runs, sections: as in a run, but each number x is
             {"mean", "sd", "values"} and each list {"mean": [...], "sd": [...]}
    entropy  one entry for each pair of a DINO run and a run with kappa of the same seed

A run on Fashion-MNIST with the quick network takes two minutes of one core (AMD EPYC), and
60 MB for its features. Ten epochs of fine-tuning with 1 % and with 10 % took 20 seconds.

Each run folder receives features.pt, from which all numbers but those of fine-tuning follow (see
vi_simsiam/evaluation/features.py), and evaluation.json, the run's finished sections. Neither is
computed again unless the checkpoint or the sizes have changed.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch
from vi_simsiam.data import DataError, ImageSet, load
from vi_simsiam.evaluation import figures, tables
from vi_simsiam.evaluation.features import QUICK, Features, Sizes
from vi_simsiam.evaluation.runs import EvaluationError, TrainedRun, open_runs
from vi_simsiam.evaluation.sections import ACROSS, DEFAULT, NAMES, Sections
from vi_simsiam.evaluation.summary import entropy_and_kappa, groups_of, summary
from vi_simsiam.options import Parser, check_device, number
from vi_simsiam.progress import Progress
from vi_simsiam.timing import machine

OTHERS = ("mnist", "fashion-mnist", "digits")  # data sets that need no --root


class EvaluationParser(Parser):
    def error(self, message: str) -> NoReturn:
        fail(message)


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(2)


def section_names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"no section {name}; there are {', '.join(NAMES)}")
    return names


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = EvaluationParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="a folder with a checkpoint.pt")
    only = "only these sections, with spaces or commas between them"
    add("--only", nargs="+", type=section_names, metavar="SECTION", help=only)
    add("--quick", action="store_true", help="fewer images, pairs and permutations")
    add("--out", type=Path, help="folder of the report (default: RUN/report, or runs/report)")
    add("--overwrite", action="store_true", help="replace a report in --out that has other runs")
    add("--data-root", type=Path, help="folder of the data, as --root was in training")
    epochs = "of few-labels and scratch (default 200, the paper's)"
    add("--fine-tune-epochs", type=number(1), default=200, help=epochs)
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--threads", type=number(1), default=1, help="of the CPU (default 1)")
    args = parser.parse_args(argv)
    chosen = [name for names in args.only or [DEFAULT] for name in names]
    args.sections = [name for name in NAMES if name in chosen]
    check_device(args.device, parser)
    if args.out is None:
        args.out = args.runs[0] / "report" if len(args.runs) == 1 else Path("runs/report")
    return args


def image_sets(run: TrainedRun, root: Path | None) -> tuple[ImageSet, dict[str, ImageSet]]:
    """The data of the runs, and the other sets that are installed, for transfer and the like."""
    try:
        data = load(run.settings["data"], root, run.settings["image_size"])
    except DataError as error:
        raise EvaluationError(str(error).replace("--root", "--data-root")) from error
    others = {}
    for name in OTHERS:
        if name != data.name:
            try:
                others[name] = load(name, None)
            except DataError:
                print(f"{name} is not installed, and so left out of r-auroc, ood and transfer")
    return data, others


def check_report(out: Path, runs: Sequence[TrainedRun], overwrite: bool) -> None:
    """A report of other runs is not replaced unasked."""
    if out.exists() and not out.is_dir():
        raise EvaluationError(f"--out {out} is a file, not a folder")
    try:
        there = set(json.loads((out / "report.json").read_text())["runs"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError):
        there = {"what cannot be read"}
    missing = sorted(there - {run.name for run in runs})
    if missing and not overwrite:
        raise EvaluationError(
            f"{out / 'report.json'} is a report of {', '.join(missing)}, too: --overwrite replaces "
            "it, --out writes elsewhere"
        )


def compute(every: Sequence[Sections], names: Sequence[str]) -> None:
    """The sections that are not there yet, run after run."""
    own = [name for name in names if name not in ACROSS]
    with Progress(0, len(every) * len(own)) as progress:
        for i, run in enumerate(every):
            for k, name in enumerate(own):
                progress.show(i * len(own) + k, f"{run.features.run.title}: {name}")
                if not run.has(name):
                    run.compute(name)
            run.features.release()
        progress.show(len(every) * len(own), "done")


def report_of(
    every: Sequence[Sections], names: Sequence[str], argv: Sequence[str], device: str
) -> dict[str, Any]:
    """What report.json holds."""
    runs = [sections.features.run for sections in every]
    groups = groups_of(runs)
    results = {s.features.run.name: s.results(names) for s in every}
    report: dict[str, Any] = {
        "command": shlex.join(["python", "examples/evaluate.py", *argv]),
        **machine(device),
        "data": every[0].features.data.name,
        "sizes": asdict(every[0].features.sizes),
        "runs": {
            run.name: {
                "method": run.settings["method"],
                "seed": run.settings["seed"],
                "step": run.step,
                "settings": run.settings,
                "checkpoint": run.checkpoint,
                "sections": results[run.name],
            }
            for run in runs
        },
        "groups": {
            label: {
                "n": len(group),
                "seeds": [run.settings["seed"] for run in group],
                "runs": [run.name for run in group],
                "sections": summary([results[run.name] for run in group]),
            }
            for label, group in groups.items()
        },
    }
    if "entropy" in names:
        report["entropy"] = entropy_and_kappa([s.features for s in every], groups)
    return report


def as_json(report: dict[str, Any]) -> str:
    """A list of numbers takes one line."""
    text = json.dumps(report, indent=1, allow_nan=False)
    text = re.sub(r"\[\n([^\[\]{}]*)\n *\]", lambda list: f"[{' '.join(list[1].split())}]", text)
    return text + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    names = args.sections
    try:
        runs = open_runs(args.runs, device)
        check_report(args.out, runs, args.overwrite)
        data, others = image_sets(runs[0], args.data_root)
        sizes = QUICK if args.quick else Sizes()
        every = [
            Sections(Features(run, data, others, sizes, device), args.fine_tune_epochs)
            for run in runs
        ]
        args.out.mkdir(parents=True, exist_ok=True)
        compute(every, names)
    except (EvaluationError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("\nstopped; the same command goes on from the sections that are done")
    command = list(sys.argv[1:] if argv is None else argv)
    report = report_of(every, names, command, args.device)
    (args.out / "report.json").write_text(as_json(report))
    pictures = figures.draw(args.out, report, [sections.features for sections in every])
    (args.out / "report.md").write_text(tables.document(report, pictures))
    print("\n" + tables.text(report))
    written = ["report.md", "report.json", *(name for names in pictures.values() for name in names)]
    print(f"\nwrote to {args.out}: {', '.join(written)}")


if __name__ == "__main__":
    main()

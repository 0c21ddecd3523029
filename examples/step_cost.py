"""Measure what a training step of every method of train_vi_simsiam.py costs, beside SimSiam's.

    python examples/step_cost.py                                   # the quick preset, MNIST
    python examples/step_cost.py --data fashion-mnist --out cost.json
    python examples/step_cost.py --width 64 --dim 512 --rounds 20  # a larger network
    python examples/step_cost.py --methods simsiam hib --device cuda

All other options are those of train_vi_simsiam.py. Every method has the same images, encoder and
batch size. A step makes the views, and updates the network. "Loss" is the loss alone, with its
gradient in the outputs of the heads; for DINO it has the teacher's forward pass in it.

A round makes one step of every method, in a random order, so that other programs slow all of them
alike. The times are medians over the rounds, of the process's own milliseconds on a CPU and of the
clock's on a GPU. A ratio is the median over the rounds of a step divided by that of SimSiam, beside
the quartiles.

examples/uncertainty.py reads the file --out. A hundred rounds of all methods take a minute of one
core (AMD EPYC).
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from train_vi_simsiam import load_data, loss_of, prepare, train_step, views_of
from vi_simsiam.data import ImageSet
from vi_simsiam.markdown import markdown
from vi_simsiam.methods import METHODS
from vi_simsiam.options import Parser, number
from vi_simsiam.run import Run
from vi_simsiam.settings import arguments
from vi_simsiam.timing import Calls, Times, in_turns, machine

REFERENCE = "simsiam"
SHARED = ("data", "network", "width", "dim", "projector", "n_small", "augment", "batch_size")


def step_and_loss(run: Run, data: ImageSet, args: argparse.Namespace) -> Calls:
    """A training step of a run, and its loss alone."""
    device = run.random.device
    batch = data.train_images[: args.batch_size].to(device)
    large, *small = views_of(batch, data, args, run.random)
    run.network.train()
    with torch.no_grad():
        out = run.network(large, *small)
    z = out.z.detach().requires_grad_()
    mu = z if out.mu is out.z else out.mu.detach().requires_grad_()
    kappa = None if out.kappa is None else out.kappa.detach().requires_grad_()
    out = out._replace(z=z, mu=mu, kappa=kappa)
    inputs = [x for x in (z, None if mu is z else mu, kappa) if x is not None]

    def step() -> float:
        return train_step(run, run.network, batch, data, args)[0].item()

    def loss() -> float:
        value = loss_of(run, out, 2 + args.n_small, large)
        torch.autograd.grad(value, inputs, allow_unused=True)
        return value.item()

    return {(args.method, "step"): step, (args.method, "loss"): loss}


def results_of(times: Times) -> list[dict[str, Any]]:
    """For each method the median step and loss, and the quartiles of step / SimSiam's step."""
    rows = []
    for (name, part), steps in times.items():
        if part == "step":
            reference = times[REFERENCE, "step"]
            ratios = [ours / theirs for ours, theirs in zip(steps, reference, strict=True)]
            lower, middle, upper = statistics.quantiles(ratios, n=4, method="inclusive")
            row = {
                "method": name,
                "step_ms": statistics.median(steps),
                "loss_ms": statistics.median(times[name, "loss"]),
                "over_simsiam": middle,
                "quartiles": [lower, upper],
            }
            rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("method", "step / SimSiam's", "quartiles", "step, ms", "loss, ms")
    cells = [
        (
            row["method"],
            f"{row['over_simsiam']:.2f}",
            " to ".join(f"{x:.2f}" for x in row["quartiles"]),
            f"{row['step_ms']:.1f}",
            f"{row['loss_ms']:.2f}",
        )
        for row in rows
    ]
    return markdown(head, cells)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    add("--rounds", type=number(2), default=100, help="steps of each method (default 100)")
    add("--out", type=Path, metavar="FILE", help="write the results there, as JSON")
    ours, others = parser.parse_known_args(argv)
    names = list(dict.fromkeys((REFERENCE, *ours.methods)))
    each = [arguments([*others, "--method", name], None) for name in names]
    first = each[0]
    for args in each[1:]:
        if args.batch_size != first.batch_size:
            parser.error(
                f"by this preset {args.method} has a batch size of {args.batch_size} and "
                f"{REFERENCE} of {first.batch_size}: give --batch-size, for all"
            )
    torch.set_num_threads(first.threads)
    device = torch.device(first.device)
    data = load_data(first)
    runs = [prepare(args, data, device) for args in each]
    calls: dict[tuple[str, str], Any] = {}
    for run, args in zip(runs, each, strict=True):
        calls |= step_and_loss(run, data, args)
    rows = results_of(in_turns(calls, device, ours.rounds))
    print(table(rows))
    if ours.out:
        command = shlex.join(["python", "examples/step_cost.py", *(argv or sys.argv[1:])])
        results = {
            "command": command,
            **machine(first.device),
            "settings": {key: runs[0].settings[key] for key in SHARED},
            "rounds": ours.rounds,
            "results": rows,
        }
        ours.out.parent.mkdir(parents=True, exist_ok=True)
        ours.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

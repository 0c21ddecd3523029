"""The options of hyperspherical_vae.py, whose errors are one line each."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from vi_simsiam.data import FASHION_MNIST
from vi_simsiam.options import Parser, number

from .data import DATASETS

TABLE_DIMS, TABLE_SEEDS = (2, 3, 6, 11, 21, 41), (0, 1, 2)  # the spheres of the paper, and S^1


def device(name: str) -> str:
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"this torch cannot use {name}: {reason}") from None
    return name


def arguments(
    argv: list[str] | None, description: str | None, posteriors: tuple[str, ...]
) -> argparse.Namespace:
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--posterior", nargs="+", choices=posteriors, default=posteriors)
    add("--dim", type=number(2), nargs="+", help="d (default 3)")
    seed = number(0, 10**9)
    add("--seed", type=seed, nargs="+", help="default 0")
    add(
        "--table",
        action="store_true",
        help="all d, 3 seeds; also writes examples/results/hyperspherical_vae.*",
    )
    add("--data", choices=DATASETS, default="mnist")
    add("--root", type=Path, help=f"folder of Fashion-MNIST (default {FASHION_MNIST[0]})")
    add("--out", type=Path, help="folder to write to (default: runs/hyperspherical-vae-DATA)")
    add("--steps", type=number(1), default=2000, help="default 2000")
    add("--batch-size", type=number(1), default=64, help="default 64")
    add("--lr", type=number(0.0, above=True), default=1e-3, help="of Adam (default 1e-3)")
    warm_up = "share of the steps in which the weight of the KL divergence rises (default 0.2)"
    add("--warm-up", type=number(0.0, 1.0), default=0.2, help=warm_up)
    add("--samples", type=number(1), default=500, help="for each log p(x) (default 500)")
    add("--device", type=device, default="cpu")
    add("--threads", type=number(1), default=1, help="of the CPU (default 1)")
    add("--resume", action="store_true", help="go on from the checkpoints in --out")
    add("--overwrite", action="store_true", help="start anew in a folder that has checkpoints")
    add(
        "--save-every",
        type=number(0.0, above=True),
        default=30,
        help="seconds between checkpoints (default 30)",
    )
    add("--stop-after", type=number(1), metavar="STEP", help="stop there, to --resume later")
    args = parser.parse_args(argv)
    args.dim = list(dict.fromkeys(args.dim or (TABLE_DIMS if args.table else [3])))
    args.seed = args.seed or (list(TABLE_SEEDS) if args.table else [0])
    args.out = args.out or Path("runs") / f"hyperspherical-vae-{args.data}"
    return args

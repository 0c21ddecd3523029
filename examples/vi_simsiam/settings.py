"""The options of train_vi_simsiam.py, its presets, and every check of what a user has typed.

An error is one line, printed before anything is read or written.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from powerspherical_ext.families import FAMILIES
from powerspherical_ext.losses import VISimSiamLoss

from .data import DATASETS, FOLDERS
from .distributed import world_size
from .methods import METHODS
from .options import Parser, check_device, number

EPOCHS = {"mnist": 40, "digits": 40, "fashion-mnist": 4}
OTHER_EPOCHS = 100

# What a preset sets, unless the command line says else.
QUICK = {
    "network": "small",
    "width": 16,
    "dim": 128,
    "projector": "quick",
    "crops": "2",
    "augment": "damage",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "warm_up": 20,
    "batch_size": 128,
    "teacher_momentum": 0.99,
}
PAPER = {  # Appendix B
    "network": "resnet18",
    "width": 64,
    "dim": 2048,
    "projector": "paper",
    "crops": "2+6",
    "augment": "simsiam",
    "optimizer": "sgd",
    "lr": 0.1,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "warm_up": 0,
    "batch_size": 512,
    "epochs": 500,
    "teacher_momentum": 0.0,
}
PAPER_OF_METHOD = {  # the other methods are not in Appendix B
    "vi-simsiam": {"schedule": "constant"},
    "simsiam": {"lr": 0.2},
    "dino": {"lr": 0.03, "batch_size": 64},
}

# Options that some methods alone use, with their defaults under every preset.
WITH_KAPPA = {name for name, method in METHODS.items() if method.has_kappa}
WITH_PREDICTOR = {name for name, method in METHODS.items() if method.has_predictor}
OPTIONS_OF_METHODS: dict[str, tuple[set[str], object]] = {
    "distribution": (WITH_KAPPA, "power_spherical"),
    "beta": ({"vi-simsiam"}, 0.0),
    "beta_weighs": ({"vi-simsiam"}, "cosine"),
    "predictor": (WITH_PREDICTOR, "mlp"),
    "teacher_momentum": ({"dino"}, None),  # the preset's
}

# What decides a run's result. A checkpoint holds it; a run that resumes must have the same.
DECISIVE = (
    *("method", *OPTIONS_OF_METHODS, "data", "image_size", "network", "width", "dim", "projector"),
    *("n_small", "augment", "optimizer", "lr", "weight_decay", "schedule", "warm_up"),
    *("batch_size", "seed"),
)


def arguments(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    parser = build_parser(description)
    args = parser.parse_args(argv)
    preset = QUICK if args.preset == "quick" else PAPER | PAPER_OF_METHOD.get(args.method, {})
    for option, (methods, default) in OPTIONS_OF_METHODS.items():
        if args.method in methods:
            if getattr(args, option) is None and default is not None:
                setattr(args, option, default)
        elif getattr(args, option) is not None:
            text = option.replace("_", "-")
            parser.error(f"--{text} is for --method {' or '.join(sorted(methods))} only")
    for option, value in preset.items():
        used = OPTIONS_OF_METHODS.get(option, (METHODS, None))[0]
        if getattr(args, option) is None and args.method in used:
            setattr(args, option, value)
    args.n_small = int(args.crops.partition("+")[2] or 0)
    args.epochs = args.epochs or EPOCHS.get(args.data, OTHER_EPOCHS)
    args.out = args.out or Path("runs") / f"{args.method}-{args.data}-{args.seed}"
    check(args, parser)
    return args


def check(args: argparse.Namespace, parser: Parser) -> None:
    """What no option shows alone."""
    try:
        if args.method == "vi-simsiam":
            VISimSiamLoss(
                distribution=args.distribution, beta=args.beta, beta_weighs=args.beta_weighs
            )
    except ValueError as error:
        parser.error(str(error))
    processes = world_size()
    if args.batch_size % processes:
        parser.error(
            f"--batch-size {args.batch_size} is that of all processes, and {processes} processes "
            "do not divide it"
        )
    if args.batch_size < 2 * processes:
        parser.error(f"--batch-size must be at least {2 * processes}, two for each process")
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out {args.out} is a file, not a folder")
    check_device(args.device, parser)


def crops(text: str) -> str:
    if not re.fullmatch(r"2(\+\d{1,2})?", text):
        raise argparse.ArgumentTypeError(
            f"must be 2, for two large views, or 2+6, for six small ones beside them, got {text}"
        )
    return text


def build_parser(description: str | None) -> Parser:
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what is trained").add_argument
    add("--method", choices=METHODS, default="vi-simsiam")
    add(
        "--preset",
        choices=("quick", "paper"),
        default="quick",
        help="defaults of the options below: quick takes minutes on a CPU (default), paper is that "
        "of Appendix B",
    )
    families = [family.name for family in FAMILIES]
    add("--distribution", choices=families, help="of kappa (default power_spherical, the paper's)")
    add("--beta", type=number(0.0, 1.0), help="of the VI-SimSiam loss (default 0, the paper's)")
    add("--beta-weighs", choices=("cosine", "loss"), help="default cosine: see VISimSiamLoss")
    add(
        "--predictor",
        choices=("mlp", "directpred"),
        help="of (VI-)SimSiam: trained (default), or computed from the projections' correlation",
    )
    add(
        "--teacher-momentum",
        type=number(0.0, 1.0),
        help="of DINO, rising to 1 along a cosine; 0: the network is its own teacher",
    )

    add = parser.add_argument_group("data").add_argument
    add("--data", choices=DATASETS, default="mnist")
    add("--root", type=Path, help="folder of the data; mnist and digits have none")
    folders = " and ".join(FOLDERS)
    add("--image-size", type=number(16), default=64, help=f"of {folders} (default 64)")
    add("--crops", type=crops, help="views of an image: 2, or large+small as in 2+6")
    add("--augment", choices=("damage", "simsiam"), help="damage: SimSiam's, noise and cut-out")

    add = parser.add_argument_group("network").add_argument
    add("--network", choices=("small", "resnet18"))
    add("--width", type=number(1), help="channels of the first stage")
    add("--projector", choices=("quick", "paper", "directpred"), help="and predictor: see model.py")
    add("--dim", type=number(4), help="length d of mu and z, or DINO's number of categories")

    add = parser.add_argument_group("optimisation").add_argument
    length = parser.add_mutually_exclusive_group()
    epochs = ", ".join(f"{n} for {data}" for data, n in EPOCHS.items())
    epochs = f"default: {epochs}, {OTHER_EPOCHS} for other data; paper: 500"
    length.add_argument("--epochs", type=number(1), help=epochs)
    length.add_argument("--steps", type=number(1), help="instead of --epochs")
    add("--batch-size", type=number(2), help="of all processes together")
    add("--optimizer", choices=("adamw", "sgd"), help="sgd has a momentum of 0.9")
    add("--lr", type=number(0.0, above=True), help="the highest, whatever the batch size")
    add("--weight-decay", type=number(0.0))
    add("--schedule", choices=("cosine", "constant"), help="of the learning rate, after warm-up")
    add("--warm-up", type=number(0), help="steps in which the learning rate rises linearly")
    add("--seed", type=number(0), default=0)

    add = parser.add_argument_group("machine").add_argument
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--amp", action="store_true", help="bfloat16 autocast; the loss stays float32")
    add("--compile", action="store_true", help="torch.compile the network")
    add(
        "--threads",
        type=number(1),
        default=1,
        help="of the CPU (default 1: see the module's docstring)",
    )

    add = parser.add_argument_group("run folder").add_argument
    add("--out", type=Path, help="folder to write to (default: runs/METHOD-DATA-SEED)")
    resume = "go on from the checkpoint in --out, if any; a finished run takes more --steps, too"
    add("--resume", action="store_true", help=resume)
    add("--overwrite", action="store_true", help="start anew in a folder that has a checkpoint")
    add(
        "--save-every",
        type=number(0.0),
        default=30.0,
        help="seconds between checkpoints (default 30)",
    )
    add("--stop-after", type=number(1), metavar="STEP", help="save and stop there, to --resume")
    return parser

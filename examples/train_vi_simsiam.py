"""Train VI-SimSiam, a SimSiam that also predicts its certainty kappa, and evaluate kappa.

    python examples/train_vi_simsiam.py                       # 5,000 MNIST digits, no download
    python examples/train_vi_simsiam.py --method simsiam      # the baseline
    python examples/train_vi_simsiam.py --data fashion-mnist --root /path/to/fashion-mnist
    python examples/train_vi_simsiam.py --data cifar10 --root /path/to/data --device cuda --amp

Each run writes checkpoint.pt, results.json and results.png to its folder. The default takes two
minutes on one CPU core; its network is for demonstration, and far smaller than the ResNet-18 of the
paper. More --threads speed up a larger --width. They gain little for the default width, and cost
time tenfold if other programs compete for the cores, because threads spin while they wait.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from vi_simsiam import plot
from vi_simsiam.augment import training_views
from vi_simsiam.data import DATASETS, DataError, ImageSet, load
from vi_simsiam.evaluate import evaluate, report
from vi_simsiam.model import VISimSiam

from powerspherical_ext.families import FAMILIES
from powerspherical_ext.losses import VISimSiamLoss, feature_std

EPOCHS = {"mnist": 40, "digits": 40, "fashion-mnist": 4, "cifar10": 100, "imagefolder": 100}
LOG_KEYS = ("loss", "cosine", "kappa", "spread")
CORRUPT = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.PickleError)


@dataclass
class Training:
    """The contents of a checkpoint, from which a run continues as if it had not stopped."""

    model: VISimSiam
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    settings: dict[str, object]
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in LOG_KEYS})

    def save(self, path: Path) -> None:
        """Writes another file and renames it, so that a crash leaves the old checkpoint whole."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "settings": self.settings,
            "step": self.step,
            "history": self.history,
        }
        beside = path.with_suffix(".tmp")
        torch.save(state, beside)
        os.replace(beside, path)

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            settings, model, optimizer, generator, step, history = (
                state[key]
                for key in ("settings", "model", "optimizer", "generator", "step", "history")
            )
        except CORRUPT as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            sys.exit(
                f"{path} is not a checkpoint that can be read ({reason}); it was left as it is"
            )
        for name, value in self.settings.items():
            if settings.get(name) != value:
                sys.exit(f"{path} was made with {name}={settings.get(name)}, this run has {value}")
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.generator.set_state(generator)
        self.step, self.history = step, history


def train(
    run: Training, data: ImageSet, total_steps: int, args: argparse.Namespace, checkpoint: Path
) -> None:
    device = torch.device(args.device)
    images = data.train_images.to(device)
    steps_per_epoch = len(images) // args.batch_size
    stop = min(total_steps, args.stop_after or total_steps)
    run.save(checkpoint)
    last_save = time.monotonic()
    vi_loss = VISimSiamLoss(distribution=args.distribution, beta=args.beta)
    run.model.train()
    with Progress(run.step, total_steps) as progress:
        while run.step < stop:
            epoch, step_in_epoch = divmod(run.step, steps_per_epoch)
            if step_in_epoch == 0 or run.step == progress.first:
                order = epoch_order(len(images), args.seed, epoch)
            chosen = order[step_in_epoch * args.batch_size :][: args.batch_size].to(device)
            batch = images[chosen].float() / 255
            views = torch.cat(
                [training_views(batch, data.view_size, data.flip, run.generator) for _ in range(2)]
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
                out = run.model(views.contiguous(memory_format=torch.channels_last))
            mu_1, mu_2 = out.mu.chunk(2)
            z_1, z_2 = out.z.chunk(2)
            if out.kappa is None:
                loss = -(cosine(mu_1, z_2.detach()) + cosine(mu_2, z_1.detach())) / 2
            else:
                kappa_1, kappa_2 = out.kappa.chunk(2)
                loss = vi_loss(mu_1, z_2, kappa_1) + vi_loss(mu_2, z_1, kappa_2)
            set_learning_rate(run.optimizer, args.lr, run.step, total_steps)
            run.optimizer.zero_grad()
            loss.backward()
            run.optimizer.step()
            run.step += 1

            with torch.no_grad():
                kappa = math.nan if out.kappa is None else out.kappa.mean().item()
                spread = feature_std(out.z).item() * out.z.shape[-1] ** 0.5
                values = (loss.item(), cosine(mu_1, z_2).item(), kappa, spread)
            if not math.isfinite(values[0]):
                sys.exit(f"the loss is {values[0]} at step {run.step}: try a lower --lr")
            for key, value in zip(LOG_KEYS, values, strict=True):
                run.history[key].append(value)
            progress.show(run.step, dict(zip(LOG_KEYS, values, strict=True)))
            if time.monotonic() - last_save > args.save_every:
                run.save(checkpoint)
                last_save = time.monotonic()
    run.save(checkpoint)


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A permutation that the seed and the epoch determine, so that a resumed run repeats it."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + epoch))


def cosine(mu: Tensor, z: Tensor) -> Tensor:
    return F.cosine_similarity(mu.float(), z.float(), dim=-1).mean()


def set_learning_rate(
    optimizer: torch.optim.Optimizer, peak: float, step: int, total: int, warm_up: int = 20
) -> None:
    rate = peak * min(1, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / total)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate


class Progress:
    """Shows a tqdm bar if tqdm is installed, and otherwise prints a line every five seconds."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total, self.start, self.last = first, total, time.monotonic(), 0.0
        try:
            from tqdm import tqdm
        except ImportError:
            self.bar = None
        else:
            self.bar = tqdm(initial=first, total=total, unit="step", mininterval=1, ncols=110)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, step: int, values: dict[str, float]) -> None:
        text = ", ".join(f"{key} {value:.3g}" for key, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif step == self.total or time.monotonic() - self.last > 5:
            self.last = time.monotonic()
            left = (self.last - self.start) / (step - self.first) * (self.total - step)
            print(f"step {step}/{self.total}: {text}, {left:.0f} s left", flush=True)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--method", choices=("vi-simsiam", "simsiam"), default="vi-simsiam")
    add(
        "--distribution",
        choices=[family.name for family in FAMILIES],
        default="power_spherical",
        help="of the VI-SimSiam loss (default power_spherical, the paper's)",
    )
    add("--beta", type=float, default=0.0, help="of the VI-SimSiam loss (default 0, the paper's)")
    add("--data", choices=DATASETS, default="mnist")
    add("--root", type=Path, help="folder of the data; mnist and digits need none")
    add("--out", type=Path, help="folder to write to (default: runs/METHOD-DATA-SEED)")
    add("--epochs", type=int, help=f"default: {EPOCHS}")
    add("--steps", type=int, help="instead of --epochs")
    add("--batch-size", type=int, default=128)
    add(
        "--lr",
        type=float,
        default=2e-3,
        help="of AdamW, after warm-up; cosine decay (default 2e-3)",
    )
    add("--weight-decay", type=float, default=5e-4)
    add("--width", type=int, default=16, help="channels of the first stage (default 16)")
    add("--dim", type=int, default=128, help="length d of mu and z (default 128)")
    add("--seed", type=int, default=0)
    add("--device", default="cpu")
    add(
        "--amp",
        action="store_true",
        help="bfloat16 autocast for the network; the loss stays float32",
    )
    add("--threads", type=int, default=1, help="of the CPU (default 1: see the module's docstring)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    add("--overwrite", action="store_true", help="start anew in a folder that has a checkpoint")
    add("--save-every", type=float, default=30, help="seconds between checkpoints (default 30)")
    add("--stop-after", type=int, metavar="STEP", help="save and stop there, to --resume later")
    args = parser.parse_args(argv)
    args.out = args.out or Path("runs") / f"{args.method}-{args.data}-{args.seed}"
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists() and not (args.resume or args.overwrite):
        sys.exit(f"{checkpoint} exists: --resume goes on from it, --overwrite starts anew")
    try:
        data = load(args.data, args.root)
    except DataError as error:
        sys.exit(str(error))
    if args.batch_size > len(data.train_images):
        sys.exit(f"--batch-size {args.batch_size} is more than {len(data.train_images)} images")
    steps_per_epoch = len(data.train_images) // args.batch_size
    total_steps = args.steps or (args.epochs or EPOCHS[args.data]) * steps_per_epoch

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = VISimSiam(
        data.train_images.shape[1],
        args.width,
        args.dim,
        with_kappa=args.method == "vi-simsiam",
        distribution=args.distribution,
    ).to(args.device, memory_format=torch.channels_last)
    names = (
        *("method", "distribution", "beta", "data", "batch_size", "lr", "weight_decay"),
        *("width", "dim", "seed"),
    )
    run = Training(
        model,
        torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay),
        torch.Generator(args.device).manual_seed(args.seed),
        {**{name: getattr(args, name) for name in names}, "total_steps": total_steps},
    )
    if args.resume and checkpoint.exists():
        run.load(checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)

    height, width = data.train_images.shape[2:]
    print(
        f"{args.method} on {data.name}: {len(data.train_images)} training and "
        f"{len(data.test_images)} test images of {height} x {width}, views of {data.view_size} x "
        f"{data.view_size}, d = {args.dim}, {total_steps} steps of {args.batch_size}",
        flush=True,
    )
    start = time.monotonic()
    try:
        train(run, data, total_steps, args, checkpoint)
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; --resume goes on from the last whole step in {checkpoint}")
    if run.step < total_steps:
        print(f"stopped at step {run.step} of {total_steps}; --resume goes on from {checkpoint}")
        return
    trained = time.monotonic()
    evaluation = evaluate(model, data, torch.device(args.device), args.distribution)
    print("\n" + report(evaluation.results))
    results = {"settings": run.settings, **evaluation.results}
    (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    plot.save(args.out / "results.png", f"{args.method} on {data.name}", run.history, evaluation)
    print(
        f"\n{trained - start:.0f} s of training, {time.monotonic() - trained:.0f} s of evaluation; "
        f"wrote {args.out / 'results.png'}"
    )


if __name__ == "__main__":
    main()

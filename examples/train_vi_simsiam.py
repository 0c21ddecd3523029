"""Train VI-SimSiam, a SimSiam that also predicts its certainty kappa, and evaluate kappa.

    python examples/train_vi_simsiam.py                       # 5,000 MNIST digits, no download
    python examples/train_vi_simsiam.py --method simsiam      # a baseline; --help lists all
    python examples/train_vi_simsiam.py --data fashion-mnist --root /path/to/fashion-mnist
    python examples/train_vi_simsiam.py --preset paper --data cifar10 --root /path/to/data \\
        --device cuda --amp
    torchrun --nproc_per_node=2 examples/train_vi_simsiam.py --device cuda ...

Each run writes checkpoint.pt, results.json and results.png to its folder. While it does, it locks
the file lock there, and refuses a folder in which another run holds it. The default takes two
minutes on one CPU core; its network is for demonstration, and far smaller than the ResNet-18 of the
paper. More --threads speed up a larger --width. They gain little for the default width, and cost
time tenfold if other programs compete for the cores, because threads spin while they wait.

One file of vi_simsiam/ for each job: methods.py has the losses of all methods, model.py the
network, augment.py the views, data.py the images, settings.py the presets, distributed.py torchrun.
examples/evaluate.py measures all that the paper does on the runs that this script has made.

Measured for the methods of Table 1 and VI-SimCLR by default settings, seed 0 (n = 1), one core of a
shared 2-core machine, 1240 steps on 4,000 MNIST images: kNN accuracy on 1,000 test images, clean
and damaged; and AUROC of kappa, and of the norm of mu, against kNN's correctness on the damaged
ones (chance .5, its standard deviation .007). Without a predictor mu is z.

    method         clean  damaged    kappa  norm of mu
    vi-simsiam      .795     .559     .776        .679
    simsiam         .780     .563                 .667
    simclr          .883     .679                 .679
    vi-simclr       .775     .539     .561        .584
    dino            .559     .365                 .583
    barlow-twins    .760     .534                 .729

Nothing was tuned for a method, and one seed does not decide an order. --preset paper was run for
single steps only: no GPU was at hand. From Appendix B it differs in the data, in the projector and
predictor, which are SimSiam's (--projector directpred has the others), in hue as a rotation of RGB,
in one blur for all blurred images of a batch, and in small crops of 3/7 of the view's side. DINO's
logits are cosines to prototypes, as in DINO itself; the paper does not describe its head.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vi_simsiam import distributed, plot
from vi_simsiam.augment import Random, multi_crop, training_views
from vi_simsiam.checkpoint import alone_in
from vi_simsiam.data import FASHION_MNIST, DataError, ImageSet, load
from vi_simsiam.distributed import rank, stop, world_size
from vi_simsiam.evaluate import evaluate
from vi_simsiam.methods import METHODS
from vi_simsiam.model import Outputs, build_network, split_views
from vi_simsiam.progress import Progress
from vi_simsiam.report import report
from vi_simsiam.run import LOG_KEYS, Run
from vi_simsiam.settings import DECISIVE, arguments

from powerspherical_ext.losses import feature_std

LOG_EVERY = 10  # steps; a GPU is waited for no more often


def train(run: Run, data: ImageSet, args: argparse.Namespace, checkpoint: Path) -> None:
    device = run.random.device
    images = data.train_images.to(device)
    total_steps = run.settings["total_steps"]
    stop_at = min(total_steps, args.stop_after or total_steps)
    network = distributed.data_parallel(run.network)
    if args.compile:
        network = torch.compile(network)
    run.network.train()
    batches = Batches(len(images), args.batch_size, args.seed, device)
    last_save, unread = time.monotonic(), []
    with Progress(run.step, total_steps, silent=rank() > 0) as progress:
        while run.step < stop_at:
            batch = images[batches.rows(run.step)]
            loss, out = train_step(run, network, batch, data, args)
            unread.append(log_values(loss, out, 2 + args.n_small))
            if run.step % LOG_EVERY == 0 or run.step == stop_at:
                values = read(unread, run)
                known = {key: value for key, value in values.items() if not math.isnan(value)}
                text = ", ".join(f"{key} {value:.3g}" for key, value in known.items())
                progress.show(run.step, text)
                if rank() == 0 and time.monotonic() - last_save > args.save_every:
                    run.save(checkpoint)
                    last_save = time.monotonic()
    if rank() == 0:
        run.save(checkpoint)


def train_step(
    run: Run, network: nn.Module, batch: Tensor, data: ImageSet, args: argparse.Namespace
) -> tuple[Tensor, Outputs]:
    """Updates the network by a batch of uint8 images, (N, C, H, W). ``network`` is that of the run,
    or what distributes or compiles it. Returns the loss and the outputs before the update."""
    total_steps = run.settings["total_steps"]
    views = views_of(batch, data, args, run.random)
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=args.amp):
        out = network(*views)
        loss = loss_of(run, out, 2 + args.n_small, views[0])
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(args, run.step, total_steps)
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    run.step += 1
    run.method.after_step(run.network, run.step / total_steps)
    return loss, out


def views_of(
    batch: Tensor, data: ImageSet, args: argparse.Namespace, random: Random
) -> list[Tensor]:
    """The large views and the small ones of a batch."""
    damage = args.augment == "damage"
    views = multi_crop(batch / 255, data.view_size, data.flip, args.n_small, damage, random)
    return [group.contiguous(memory_format=torch.channels_last) for group in views]


class Batches:
    """The rows of this process in the batch of a step. The seed and the epoch decide the order, so
    that a resumed run repeats it."""

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.n, self.batch_size, self.seed, self.device = n, batch_size, seed, device
        self.epoch = -1

    def rows(self, step: int) -> Tensor:
        epoch, step_in_epoch = divmod(step, self.n // self.batch_size)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
            self.order = torch.randperm(self.n, generator=generator).to(self.device)
            self.epoch = epoch
        own = self.batch_size // world_size()
        return self.order[step_in_epoch * self.batch_size + rank() * own :][:own]


def loss_of(run: Run, out: Outputs, n_views: int, large: Tensor) -> Tensor:
    try:
        return run.method.loss(split_views(out, n_views), large)
    except ValueError as error:  # on a CPU the losses look for NaN themselves
        reason = str(error).partition(":")[0]
        sys.exit(f"training has diverged at step {run.step + 1} ({reason}): try a lower --lr")


def learning_rate(args: argparse.Namespace, step: int, total_steps: int) -> float:
    rate = args.lr * min(1, (step + 1) / max(1, args.warm_up))
    if args.schedule == "cosine":
        rate = rate * (1 + math.cos(math.pi * step / total_steps)) / 2
    return rate


@torch.no_grad()
def log_values(loss: Tensor, out: Outputs, n_views: int) -> Tensor:
    """The numbers of LOG_KEYS. They stay on the device, so that nothing waits for it."""
    views = split_views(out, n_views)
    cosine = F.cosine_similarity(views.mu[0].float(), views.z[1].float(), dim=-1).mean()
    kappa = loss.new_full((), math.nan) if out.kappa is None else out.kappa.mean()
    spread = feature_std(out.z) * out.z.shape[-1] ** 0.5
    return torch.stack([loss.detach(), cosine, kappa, spread])


def read(unread: list[Tensor], run: Run) -> dict[str, float]:
    """Moves the numbers of the last steps to the history; returns the newest."""
    table = distributed.mean(torch.stack(unread)).tolist()
    first = run.step - len(unread) + 1
    for step, values in enumerate(table, start=first):
        if not math.isfinite(values[0]):
            stop(f"the loss is {values[0]} at step {step}: try a lower --lr")
        for key, value in zip(LOG_KEYS, values, strict=True):
            run.history[key].append(value)
    unread.clear()
    return dict(zip(LOG_KEYS, table[-1], strict=True))


def load_data(args: argparse.Namespace) -> ImageSet:
    try:
        data = load(args.data, args.root, args.image_size)
    except DataError as error:
        stop(str(error))
    if args.batch_size > len(data.train_images):
        stop(f"--batch-size {args.batch_size} is more than {len(data.train_images)} images")
    return data


def prepare(args: argparse.Namespace, data: ImageSet, device: torch.device) -> Run:
    """A new run: its network, method and optimiser."""
    steps_per_epoch = len(data.train_images) // args.batch_size
    settings = {name: getattr(args, name) for name in DECISIVE}
    settings["total_steps"] = args.steps or args.epochs * steps_per_epoch
    settings["channels"], settings["view_size"] = data.train_images.shape[1], data.view_size
    torch.manual_seed(args.seed)
    network = build_network(METHODS[args.method], settings)
    network = distributed.synchronise_batch_norm(network, device)
    network = network.to(device, memory_format=torch.channels_last)
    method = METHODS[args.method](settings, network).to(device)
    options = {"lr": args.lr, "weight_decay": args.weight_decay}
    optimizer: torch.optim.Optimizer
    if args.optimizer == "adamw":
        optimizer = torch.optim.AdamW(network.parameters(), **options)
    else:
        optimizer = torch.optim.SGD(network.parameters(), momentum=0.9, **options)
    random = Random(device, args.seed, rank(), world_size())
    return Run(network, method, optimizer, random, settings)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv, __doc__)
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists() and not (args.resume or args.overwrite):
        stop(f"{checkpoint} exists: --resume goes on from it, --overwrite starts anew")
    data = load_data(args)
    torch.set_num_threads(args.threads)
    with alone_in(args.out):
        device = distributed.connect(args.device)
        try:
            run = prepare(args, data, device)
            if args.resume and checkpoint.exists():
                run.load(checkpoint)
            train_and_evaluate(run, data, args, checkpoint)
            distributed.wait()
        finally:
            distributed.disconnect()


def train_and_evaluate(
    run: Run, data: ImageSet, args: argparse.Namespace, checkpoint: Path
) -> None:
    total_steps = run.settings["total_steps"]
    if rank() == 0:
        height, width = data.train_images.shape[2:]
        crops = f" and {args.n_small} small ones" if args.n_small else ""
        print(
            f"{args.method} on {data.name}: {len(data.train_images)} training and "
            f"{len(data.test_images)} test images of {height} x {width}, views of {data.view_size} "
            f"x {data.view_size}{crops}, d = {args.dim}, {total_steps} steps of {args.batch_size}",
            flush=True,
        )
    start = time.monotonic()
    try:
        train(run, data, args, checkpoint)
    except KeyboardInterrupt:
        saved = f"--resume goes on from {checkpoint}" if checkpoint.exists() else "nothing is saved"
        stop(f"\nstopped; {saved}")
    if rank() > 0:
        return
    if run.step < total_steps:
        print(f"stopped at step {run.step} of {total_steps}; --resume goes on from {checkpoint}")
        return
    trained = time.monotonic()
    view = partial(
        training_views, size=data.view_size, flip=data.flip, damage=args.augment == "damage"
    )
    evaluation = evaluate(run.network, run.method, data, run.random.device, args.distribution, view)
    print("\n" + report(evaluation.results))
    results = {"settings": run.settings, **evaluation.results}
    (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    plot.save(args.out / "results.png", f"{args.method} on {data.name}", run.history, evaluation)
    print(
        f"\nthis call: {trained - start:.0f} s of training, {time.monotonic() - trained:.0f} s of "
        f"evaluation; wrote {args.out / 'results.png'}"
    )
    print(f"all that the paper measures: python examples/evaluate.py {args.out}")
    if args.data == "mnist" and any(path.is_dir() for path in FASHION_MNIST):
        print("the same on Fashion-MNIST: python examples/train_vi_simsiam.py --data fashion-mnist")


if __name__ == "__main__":
    main()

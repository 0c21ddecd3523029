"""Train variational autoencoders (VAEs) whose latent lies on a sphere, and compare posteriors.

    python examples/hyperspherical_vae.py                        # 5,000 MNIST digits, no download
    python examples/hyperspherical_vae.py --dim 11 --posterior power_spherical gaussian
    python examples/hyperspherical_vae.py --data fashion-mnist --root /path/to/fashion-mnist
    python examples/hyperspherical_vae.py --table                # every dimension, three seeds

The model is the S-VAE of Davidson et al. (2018, arXiv 1804.00891), with the network of its authors'
example, Adam, a weight of the KL divergence that rises to 1, and images that are binarised anew in
each step. The latent is a unit vector of length d, on the sphere S^{d-1}, with a uniform prior. The
Gaussian has d - 1 dimensions, as many as the sphere. The "d" of the paper is that number, so that
its d = 2 is --dim 3 here.

The folder --out receives the checkpoints, results.json, results.md and results.png. The default
takes about two minutes on one CPU core. --table also writes to examples/results, which holds what
three seeds gave on two CPU cores. Those figures differ from the published ones in the data, 4,000
instead of 60,000 images, and in the training, 2,000 steps (32 epochs), after which no posterior has
converged. For d = 2 all posteriors are then equal within their standard deviations. For d = 3 the
spherical Cauchy is ahead, and the other three are equal. For d = 6 the spherical Cauchy and the
Gaussian are ahead. For d = 11, 21 and 41 the Gaussian is far ahead of the others, which learn more
slowly.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from svae import report
from svae.checkpoint import restore, save
from svae.data import Data, DataError, load
from svae.options import arguments
from svae.timing import shares, step_and_latent
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence, transform_to
from vi_simsiam.progress import progress
from vi_simsiam.timing import in_turns, machine

from powerspherical_ext import (
    HypersphericalUniform,
    PowerSpherical,
    SphericalCauchy,
    VonMisesFisher,
)

SETTINGS = ("data", "steps", "batch_size", "lr", "warm_up")  # of a run, with what names it
TABLE = Path(__file__).parent / "results" / "hyperspherical_vae"  # .json and .md
PYPI = "power_spherical of PyPI"


class Latent(NamedTuple):
    """A kind of latent: what the encoder's numbers s mean, and the prior."""

    outputs: Callable[[int], int]  # how many numbers the encoder gives for d
    length: Callable[[int], int]  # of a latent
    posterior: Callable[[Tensor], Distribution]  # from s (..., outputs)
    prior: Callable[[int, str], Distribution]  # from d and the device


def on_sphere(family: Callable, concentration: Callable, uniform: Callable) -> Latent:
    def posterior(s: Tensor) -> Distribution:
        loc = F.normalize(s[..., :-1], dim=-1)
        return family(loc, concentration(s[..., -1]), validate_args=False)

    return Latent(lambda d: d + 1, lambda d: d, posterior, lambda d, to: uniform(d, device=to))


def one_or_more(s: Tensor) -> Tensor:
    """The concentration of S-VAE: the 1 keeps the posterior from becoming the prior."""
    return F.softplus(s) + 1


def gaussian(s: Tensor) -> Distribution:
    mean, spread = s.chunk(2, dim=-1)
    return Independent(Normal(mean, F.softplus(spread), validate_args=False), 1)


def standard_normal(d: int, device: str) -> Distribution:
    zeros = torch.zeros(d - 1, device=device)
    return Independent(Normal(zeros, zeros + 1, validate_args=False), 1)


below_one = transform_to(SphericalCauchy.arg_constraints["concentration"])  # a sigmoid
LATENTS = {
    "power_spherical": on_sphere(PowerSpherical, one_or_more, HypersphericalUniform),
    "von_mises_fisher": on_sphere(VonMisesFisher, one_or_more, HypersphericalUniform),
    "spherical_cauchy": on_sphere(SphericalCauchy, below_one, HypersphericalUniform),
    "gaussian": Latent(lambda d: 2 * (d - 1), lambda d: d - 1, gaussian, standard_normal),
}


class VAE(nn.Module):
    def __init__(self, pixels: int, dim: int, latent: Latent, device: str) -> None:
        super().__init__()
        self.latent, self.prior = latent, latent.prior(dim, device)
        self.encoder = mlp(pixels, 256, 128, latent.outputs(dim))
        self.decoder = mlp(latent.length(dim), 128, 256, pixels)
        self.to(device)

    def posterior(self, x: Tensor) -> Distribution:
        return self.latent.posterior(self.encoder(x))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), where each pixel is a Bernoulli variable."""
        logits = self.decoder(z)
        return (x * logits - F.softplus(logits)).sum(-1)


def mlp(*sizes: int) -> nn.Sequential:
    layers = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def train_step(
    model: VAE, optimizer: torch.optim.Optimizer, images: Tensor, batch_size: int, beta: float
) -> float:
    """Returns the ELBO of a batch of newly binarised images."""
    x = torch.bernoulli(images[torch.randint(len(images), (batch_size,), device=images.device)])
    q = model.posterior(x)
    reconstruction = model.log_likelihood(x, q.rsample()).mean()
    kl = kl_divergence(q, model.prior).mean()
    optimizer.zero_grad()
    (beta * kl - reconstruction).backward()
    optimizer.step()
    return (reconstruction - kl).item()


def train(run: dict[str, Any], images: Tensor, path: Path, args: argparse.Namespace) -> None:
    """Goes on from run["step"]. Each step seeds torch, so that a resumed run repeats it exactly."""
    settings, saved = run["settings"], time.monotonic()
    label = f"{settings['posterior']}, d = {settings['dim']}, seed {settings['seed']}"
    for step in progress(run["step"], min(args.steps, args.stop_after or args.steps), label):
        torch.manual_seed(settings["seed"] * 10**7 + step)
        beta = min(1.0, (step + 1) / max(1, args.warm_up * args.steps))
        elbo = train_step(run["model"], run["optimizer"], images, args.batch_size, beta)
        if not math.isfinite(elbo):
            sys.exit(f"{label}: the ELBO is {elbo} at step {step}: try a lower --lr")
        run["history"].append(elbo)
        run["step"] = step + 1
        if time.monotonic() - saved > args.save_every:
            save(run, path)
            saved = time.monotonic()
    save(run, path)


@torch.no_grad()
def evaluate(model: VAE, data: Data, samples: int) -> dict[str, float]:
    """Means over the test images, from ``samples`` draws z of the posterior q of each.

    log p(x) is estimated by the logarithm of the mean of p(x | z) p(z) / q(z | x), which on average
    is no larger, and the ELBO by the mean of log p(x | z), less the KL divergence.
    """
    from sklearn.neighbors import KNeighborsClassifier

    torch.manual_seed(0)  # the same binary images for every model
    bank, test = torch.bernoulli(data.train[:10_000]), torch.bernoulli(data.test)
    parts = []
    for x in test.split(10):
        q = model.posterior(x)
        z = q.rsample((samples,))
        given_z = model.log_likelihood(x, z)
        weights = given_z + model.prior.log_prob(z) - q.log_prob(z)
        marginal = weights.logsumexp(0) - math.log(samples)
        parts.append(torch.stack([marginal, given_z.mean(0), kl_divergence(q, model.prior)]))
    log_likelihood, reconstruction, kl = torch.cat(parts, dim=1).double().mean(1).tolist()
    q = model.posterior(test)
    knn = KNeighborsClassifier(5).fit(model.posterior(bank).mode.cpu(), data.train_labels[:10_000])
    result = {
        "log_likelihood": log_likelihood,
        "elbo": reconstruction - kl,
        "reconstruction": reconstruction,
        "kl": kl,
        "knn": float(knn.score(q.mode.cpu(), data.test_labels)),
    }
    if hasattr(q, "concentration"):
        result["mean_concentration"] = q.concentration.mean().item()
    return result


def step_times(data: Data, dim: int, args: argparse.Namespace) -> list[dict]:
    """What a training step costs with each latent, also with that of PyPI's power-spherical."""
    latents = dict(LATENTS)
    try:
        import power_spherical as peer
    except ImportError:
        print("PyPI's power-spherical is not installed, and so not timed")
    else:
        latents[PYPI] = on_sphere(peer.PowerSpherical, one_or_more, peer.HypersphericalUniform)
    pixels = data.train.shape[1]
    models = {name: VAE(pixels, dim, latent, args.device) for name, latent in latents.items()}
    calls = step_and_latent(models, train_step, data.train, args.batch_size)
    times = in_turns(calls, data.train.device)
    return [{"dim": dim, **row} for row in shares(times, "power_spherical")]


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv, __doc__, tuple(LATENTS))
    try:
        data = load(args.data, args.root)
    except DataError as error:
        sys.exit(str(error))
    files = {
        (dim, name, seed): args.out / f"{name}-{dim}-{seed}.pt"
        for seed in args.seed
        for dim in args.dim
        for name in args.posterior
    }
    existing = next((path for path in files.values() if path.exists()), None)
    if existing is not None and not (args.resume or args.overwrite):
        sys.exit(f"{existing} exists: --resume goes on from it, --overwrite starts anew")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"--out {args.out}: {error.strerror}")
    torch.set_num_threads(args.threads)
    data = data._replace(train=data.train.to(args.device), test=data.test.to(args.device))

    shown = 3 if 3 in args.dim else args.dim[0]
    begin, rows, histories, latents = time.monotonic(), [], {}, {}
    for (dim, name, seed), path in files.items():
        torch.manual_seed(seed)
        model = VAE(data.train.shape[1], dim, LATENTS[name], args.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
        settings = {"posterior": name, "dim": dim, "seed": seed}
        settings |= {key: getattr(args, key) for key in SETTINGS}
        run = {"model": model, "optimizer": optimizer, "settings": settings}
        run |= {"step": 0, "history": [], "results": {}}
        if args.resume and path.exists():
            restore(run, path)
        try:
            train(run, data.train, path, args)
            if run["step"] == args.steps and run["results"].get("samples") != args.samples:
                run["results"] = {"samples": args.samples, **evaluate(model, data, args.samples)}
                save(run, path)
        except KeyboardInterrupt:
            sys.exit(f"\nstopped; --resume goes on from the last checkpoint in {args.out}")
        if run["step"] < args.steps:
            print(f"stopped at step {run['step']} of {args.steps}; --resume goes on from {path}")
            continue
        rows.append({"posterior": name, "dim": dim, "seed": seed, **run["results"]})
        if (dim, seed) == (shown, args.seed[0]):  # the picture shows one dimension and seed
            with torch.no_grad():
                latents[name] = model.posterior(data.test).mode.cpu().numpy()
            histories[name] = run["history"]
    if len(rows) < len(files):
        return

    trained = time.monotonic()
    times = [row for dim in args.dim for row in step_times(data, dim, args)]
    command = ["python", "examples/hyperspherical_vae.py"]
    command += sys.argv[1:] if argv is None else argv
    settings = {key: getattr(args, key) for key in SETTINGS} | {"samples": args.samples}
    results = {"command": shlex.join(command), "settings": settings}
    results |= {**machine(args.device), "results": rows, "times": times}
    first = [row for row in rows if row["dim"] == shown]
    title = f"VAEs on {args.data}, d = {shown}"
    for stem in [args.out / "results", *([TABLE] if args.table else [])]:
        report.write(stem, results)
        report.picture(stem, title, first, histories, latents, data.test_labels)
    print("\n" + report.tables(rows, times))
    print(
        f"{trained - begin:.0f} s of training and evaluation, {time.monotonic() - trained:.0f} s "
        f"of timing; wrote {args.out / 'results.png'}"
    )


if __name__ == "__main__":
    main()

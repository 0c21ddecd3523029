"""Train encoders whose true posteriors are known, and compare the learnt concentrations with them.

    python examples/mc_infonce_synthetic.py                     # d = 64, one seed
    python examples/mc_infonce_synthetic.py --dim 8 16 --seed 0 1
    python examples/mc_infonce_synthetic.py --table             # three d, three seeds

This is the synthetic experiment of Kirchhof, Kasneci and Oh (2023, arXiv 2302.02865) in a process
that can be drawn from directly. A latent z is uniform on the sphere S^{d-1}. Its positive partner
is von Mises-Fisher around it. An observation of a latent is a direction mu, which is von
Mises-Fisher around the latent, and a quality kappa. So the posterior of the latent given the
observation is von Mises-Fisher around mu, of concentration kappa. The encoder sees mu and a code of
kappa, mixed by a random rotation. It never sees a latent, and learns from pairs alone, by
MCInfoNCE.

Each encoder is trained twice: once with the package's sampler, and once with the sampler of many
public codebases. That one comes from code for s-vae, which switches to an approximation of one of
its constants for kappa > 10. The approximation is for kappa far above d, and elsewhere the samples
have the wrong law. Both runs see the same data, and start from the same weights.

The default takes about a minute of one CPU core, and --table five. The folder --out receives
results.json, results.md and results.png. --table also writes them to
examples/results/mc_infonce_synthetic.*, which three seeds on a busy core gave. The s-vae style
sampler is wrong from d = 16 on, at kappa above 10 and not far above d. For d = 64 it makes encoders
overestimate kappa, most of all where kappa is low. The order of the concentrations, by which they
are usually judged, does not show it.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mc_infonce.report import EXACT, WRONG, summary, tables, write
from torch import Tensor, nn
from torch.distributions import kl_divergence
from vi_simsiam.options import Parser, number
from vi_simsiam.progress import progress
from vi_simsiam.timing import machine

from powerspherical_ext import HypersphericalUniform, VonMisesFisher
from powerspherical_ext.losses import mc_infonce_loss
from powerspherical_ext.metrics import rank_correlation

TABLE_DIMS, TABLE_SEEDS = (8, 16, 64), (0, 1, 2)
RESULTS = Path(__file__).parent / "results" / "mc_infonce_synthetic"
CODE = 4  # coordinates of the observation that tell its quality
LOWEST, HIGHEST = 0.3, 0.8  # mean cosine of the latent to mu, for the worst and the best quality


# The process


class Process:
    """Pairs of observations, and their true posteriors."""

    def __init__(self, d: int, seed: int) -> None:
        self.d, self.generator = d, torch.Generator().manual_seed(seed)
        mix = torch.randn(d + CODE, d + CODE, generator=self.generator)
        self.rotation = torch.linalg.qr(mix).Q
        # Cosines of independent latents have a standard deviation of 1/sqrt(d), so that the logits
        # of negatives have one of 2. Where it is much larger, the negatives of a batch are too few.
        self.kappa_pos = 2.0 * d**0.5

    def law(self, loc: Tensor, kappa: Tensor) -> VonMisesFisher:
        return VonMisesFisher(loc, kappa, validate_args=False)

    def observe(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Observations x (n, d + CODE) of latents (n, d), with mu and kappa of their posteriors."""
        quality = torch.rand(len(z), generator=self.generator)
        cosine = LOWEST + (HIGHEST - LOWEST) * quality
        kappa = VonMisesFisher.with_mean_cosine(z, cosine).concentration
        mu = self.law(z, kappa).sample(generator=self.generator)
        code = (torch.arange(1, CODE + 1) * (quality.unsqueeze(-1) - 0.5)).tanh()
        return torch.cat([mu, code], -1) @ self.rotation, mu, kappa

    def latents(self, n: int) -> Tensor:
        return F.normalize(torch.randn(n, self.d, generator=self.generator), dim=-1)

    def pair(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.latents(n)
        partner = self.law(z, torch.tensor(self.kappa_pos)).sample(generator=self.generator)
        return self.observe(z)[0], self.observe(partner)[0]


class Encoder(nn.Module):
    """mu by a linear map, and kappa by a network."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.mu = nn.Linear(d + CODE, d, bias=False)
        self.kappa = nn.Sequential(
            nn.Linear(d + CODE, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )
        loc, cosine = torch.eye(d)[0], torch.tensor((LOWEST + HIGHEST) / 2)
        self.start = VonMisesFisher.with_mean_cosine(loc, cosine).concentration

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_ratio = self.kappa(x).squeeze(-1)
        return F.normalize(self.mu(x), dim=-1), self.start * (4 * (log_ratio / 4).tanh()).exp()


# The two samplers


def exact_loss(
    mu1: Tensor, mu2: Tensor, kappa1: Tensor, kappa2: Tensor, n_samples: int, temperature: float
) -> Tensor:
    return mc_infonce_loss(mu1, mu2, kappa1, kappa2, n_samples=n_samples, temperature=temperature)


def wrong_loss(
    mu1: Tensor, mu2: Tensor, kappa1: Tensor, kappa2: Tensor, n_samples: int, temperature: float
) -> Tensor:
    """The same loss of samples that have the wrong law."""
    mu, kappa = torch.cat([mu1, mu2]), torch.cat([kappa1, kappa2])
    return loss_of_samples(svae_style_samples(mu, kappa, n_samples), temperature)


def loss_of_samples(e: Tensor, temperature: float) -> Tensor:
    """MCInfoNCE of samples e (S, 2N, d), those of the first views before those of the second."""
    n_samples, n, _ = e.shape
    logits = e @ e.mT / temperature
    logits = logits.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    partner = torch.arange(n).roll(n // 2).expand(n_samples, n)
    losses = F.cross_entropy(logits.flatten(0, 1), partner.flatten(), reduction="none")
    return (math.log(n_samples) - (-losses).view(n_samples, n).logsumexp(0)).mean()


def svae_style_samples(mu: Tensor, kappa: Tensor, n_samples: int) -> Tensor:
    """Samples (S, n, d) of the WRONG LAW, by the method of Ulrich (1984) and Wood (1994) with the
    approximation of its constant b that many codebases make.

    b = (m - 2 kappa + sqrt(4 kappa^2 + m^2) - m)/m with m = d - 1, and for kappa > 11 the first
    term of its series in m/kappa, m/(4 kappa). The gradient in kappa is that of the accepted
    proposal, which leaves out the change of the probability of accepting it.
    """
    cosine = svae_style_cosines(kappa.expand(n_samples, len(kappa)), mu.shape[-1])
    normal = torch.randn(n_samples, *mu.shape)
    tangent = F.normalize(normal - (normal * mu).sum(-1, keepdim=True) * mu, dim=-1)
    sine = (1 - cosine.square()).clamp(min=1e-14).sqrt()
    return cosine.unsqueeze(-1) * mu + sine.unsqueeze(-1) * tangent


def svae_style_cosines(kappa: Tensor, d: int) -> Tensor:
    m = d - 1
    root = (4 * kappa**2 + m**2).sqrt()
    share = (kappa - 10).clamp(0, 1)
    b = share * m / (4 * kappa) + (1 - share) * (root - 2 * kappa) / m
    a = (m + 2 * kappa + root) / 4
    constant = 4 * a * b / (1 + b) - m * math.log(m)
    beta = torch.distributions.Beta(*torch.full((2,), m / 2, dtype=torch.float64))
    with torch.no_grad():
        accepted, proposals = torch.zeros_like(kappa, dtype=torch.bool), torch.zeros_like(kappa)
        while not accepted.all():
            trial = beta.sample(kappa.shape).to(kappa.dtype)
            t = 2 * a * b / (1 - (1 - b) * trial)
            accept = m * t.log() - t + constant > torch.rand_like(kappa).log()
            proposals = torch.where(accept & ~accepted, trial, proposals)
            accepted |= accept
    return (1 - (1 + b) * proposals) / (1 - (1 - b) * proposals)


LOSSES: dict[str, Callable[..., Tensor]] = {EXACT: exact_loss, WRONG: wrong_loss}


def law_rows(dims: Sequence[int]) -> list[dict]:
    """E[mu . x] of 20,000 samples by each sampler, where the exact value is known."""
    rows = []
    for d in dims:
        for cosine in (0.2, 0.3, 0.5, 0.7, 0.8):
            loc = torch.eye(d, dtype=torch.float64)[0]
            law = VonMisesFisher.with_mean_cosine(loc, cosine)
            torch.manual_seed(0)
            exact = law.sample((20_000,))[:, 0].mean().item()
            wrong = svae_style_cosines(law.concentration.expand(20_000), d).mean().item()
            kappa = law.concentration.item()
            row = {"dim": d, "kappa": kappa, "cosine": cosine, EXACT: exact, WRONG: wrong}
            rows.append(row)
    return rows


# Training and evaluation


def train(d: int, seed: int, sampler: str, args: argparse.Namespace) -> dict:
    process, loss_of = Process(d, seed), LOSSES[sampler]
    torch.manual_seed(seed)
    encoder = Encoder(d)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    for _ in progress(0, args.steps, f"d = {d}, seed {seed}, {sampler}"):
        (mu1, kappa1), (mu2, kappa2) = (encoder(x) for x in process.pair(args.batch_size))
        loss = loss_of(mu1, mu2, kappa1, kappa2, args.samples, 1 / process.kappa_pos)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {"dim": d, "seed": seed, "sampler": sampler, **evaluate(encoder, process)}


@torch.no_grad()
def evaluate(encoder: Encoder, process: Process, n: int = 4000) -> dict:
    """Learnt posteriors beside true ones, for new observations of new latents.

    The latent space of an encoder is that of the process up to a rotation. The best one is found
    from the mean directions.
    """
    process.generator.manual_seed(10**6)
    z = process.latents(n)
    x, mu, kappa = process.observe(z)
    own_mu, own_kappa = encoder(x)
    u, _, v = torch.linalg.svd(own_mu.T @ mu)
    turned = F.normalize(own_mu @ (u @ v), dim=-1)
    low = kappa <= kappa.quantile(0.25)
    true, learnt = process.law(mu, kappa), process.law(turned, own_kappa)
    uniform = HypersphericalUniform(process.d)
    shown = slice(None, 300)
    return {
        "rank_correlation": rank_correlation(kappa, own_kappa),
        "kappa_ratio": (own_kappa / kappa).median().item(),
        "kappa_ratio_low": (own_kappa / kappa)[low].median().item(),
        "claimed_cosine": learnt.mean_resultant_length().mean().item(),
        "true_cosine": (turned * z).sum(-1).mean().item(),
        "mean_direction": (turned * mu).sum(-1).mean().item(),
        "kl": kl_divergence(true, learnt).mean().item(),
        "kl_uniform": kl_divergence(true, uniform).mean().item(),
        "kappas": [kappa[shown].tolist(), own_kappa[shown].tolist()],
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dim", type=number(3), nargs="+", help="d (default 64)")
    add("--seed", type=number(0, 10**6 - 1), nargs="+", help="default 0")
    add("--table", action="store_true", help="d = 8, 16, 64 and 3 seeds, to examples/results")
    add("--steps", type=number(1), default=1200, help="of training (default 1200)")
    add("--batch-size", type=number(2), default=96, help="pairs in a step (default 96)")
    add("--samples", type=number(1), default=16, help="of each posterior (default 16)")
    add("--lr", type=number(0.0, above=True), default=3e-3, help="of Adam (default 3e-3)")
    add("--threads", type=number(1), default=1, help="of the CPU (default 1)")
    add(
        "--out", type=Path, default=Path("runs") / "mc-infonce-synthetic", help="folder to write to"
    )
    args = parser.parse_args(argv)
    args.dim = list(dict.fromkeys(args.dim or (TABLE_DIMS if args.table else [64])))
    args.seed = list(dict.fromkeys(args.seed or (TABLE_SEEDS if args.table else [0])))
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"--out {args.out}: {error.strerror}")
    torch.set_num_threads(args.threads)
    begin, rows = time.monotonic(), []
    laws = law_rows(args.dim)
    try:
        for d in args.dim:
            for seed in args.seed:
                for sampler in LOSSES:
                    row = train(d, seed, sampler, args)
                    rows.append(row)
                    print(f"d = {d}, seed {seed}, {sampler}: {summary(row)}", flush=True)
    except KeyboardInterrupt:
        sys.exit("\nstopped; nothing is written")
    given = sys.argv[1:] if argv is None else argv
    settings = {key: getattr(args, key) for key in ("steps", "batch_size", "samples", "lr")}
    results = {
        "command": shlex.join(["python", "examples/mc_infonce_synthetic.py", *given]),
        "settings": settings,
        "machine": machine("cpu"),
        "seconds": round(time.monotonic() - begin),
        "results": rows,
        "laws": laws,
    }
    write(args.out / "results", results)
    print(f"\n{tables(rows, laws)}\n{time.monotonic() - begin:.0f} s; results in {args.out}")
    if args.table:
        write(RESULTS, results)


if __name__ == "__main__":
    main()

"""Maps where in (d, kappa) samplers and densities are right, by the exact distribution.

    python benchmarks/stability.py      writes results/stability.json

The grade of samples is the Kolmogorov-Smirnov p-value of (1 - mu.x)/2, computed from the chord in
float64, under a random mean direction. The grade of densities is their error at points of the exact
distribution (`law.py`). A peer that raises has no grade.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clock
import numpy as np
import scipy.stats
import torch
from law import Array, Law, y_of
from torch import Tensor
from work import FAMILIES

import powerspherical_ext

RESULTS = Path(__file__).parent / "results"
DIMENSIONS = (2, 3, 5, 8, 16, 64, 256, 2048)
KAPPAS = tuple(10.0**e for e in range(-3, 8))
SAMPLES, DENSITIES = 2000, 256
# One in a million per cell: 1000 cells have a false alarm once in 1000 maps. The seed is fixed.
P_VALUE = 1e-6
NATS = 0.01

# (mu, kappa) -> sample(n), log_prob(x), for mu (d) and kappa () in float32.
Peer = Callable[[Tensor, Tensor], tuple[Callable[[int], Tensor], Callable[[Tensor], Tensor]]]


def _class(family: Any) -> Peer:
    def make(mu: Tensor, kappa: Tensor) -> Any:
        p = family(mu[None], kappa[None], validate_args=False)
        return (lambda n: p.sample((n,))[:, 0]), p.log_prob

    return make


def _ours(family: str) -> Callable[[], Peer]:
    return lambda: _class(getattr(powerspherical_ext, family))


def _power_spherical() -> Peer:
    return _class(importlib.import_module("power_spherical").PowerSpherical)


def _s_vae() -> Peer:
    import s_vae

    def make(mu: Tensor, kappa: Tensor) -> Any:
        def sample(n: int) -> Tensor:
            return s_vae.rsample(mu.expand(n, -1), kappa.expand(n))

        return sample, lambda x: s_vae.log_prob(x, mu, kappa)

    return make


def _scipy() -> Peer:
    """SciPy computes in float64, and wants vectors that have length one in it."""

    def unit(x: Tensor) -> Any:
        return (x.double() / x.double().norm(dim=-1, keepdim=True)).numpy()

    def make(mu: Tensor, kappa: Tensor) -> Any:
        p = scipy.stats.vonmises_fisher(unit(mu), float(kappa), seed=mu.numel())
        return (
            lambda n: torch.from_numpy(p.rvs(n)),
            lambda x: torch.from_numpy(p.logpdf(unit(x))),
        )

    return make


def _tfp(family: str) -> Callable[[], Peer]:
    def peer() -> Peer:
        import jax

        module = importlib.import_module("tensorflow_probability.substrates.jax.distributions")
        distribution = getattr(module, family)

        def make(mu: Tensor, kappa: Tensor) -> Any:
            p = distribution(mu.numpy(), kappa.numpy())
            key = jax.random.key(mu.numel())
            return (
                lambda n: torch.from_numpy(np.array(p.sample(n, seed=key))),
                lambda x: torch.from_numpy(np.array(p.log_prob(x.numpy()))),
            )

        return make

    return peer


# Peers that have one family alone.
_OTHERS: dict[str, dict[str, Callable[[], Peer]]] = {
    "PowerSpherical": {"power-spherical": _power_spherical},
    "VonMisesFisher": {"s-vae style": _s_vae, "SciPy (float64)": _scipy},
}
# The map shows the peers that can be imported.
PEERS: dict[str, dict[str, Callable[[], Peer]]] = {
    family: {
        "powerspherical_ext": _ours(family),
        **_OTHERS.get(family, {}),
        "TFP on JAX": _tfp(family),
    }
    for family in FAMILIES
}


def concentration(family: str, kappa: float) -> float:
    """The concentration in the cell of kappa: in a domain [0, c) it is c kappa/(1 + kappa)."""
    law = FAMILIES[family]
    return law.upper_bound * kappa / (1 + kappa) if law.is_bounded else kappa


def grade(peer: Peer, family: str, d: int, kappa: float) -> tuple[float, float]:
    """The p-value of the samples, and the largest error of the densities in nats.

    They are NaN and infinity if a peer raises, or returns what is not finite.
    """
    rng = np.random.default_rng(d)
    mu = torch.from_numpy(rng.standard_normal(d))
    mu = (mu / mu.norm()).float()
    torch.manual_seed(d)
    kappas = torch.tensor(concentration(family, kappa))
    law = Law(family, d, float(kappas))  # as float32 holds it
    p_value, error = np.nan, np.inf
    with contextlib.suppress(Exception):
        x = peer(mu, kappas)[0](SAMPLES)
        if bool(x.isfinite().all()):
            p_value = float(scipy.stats.kstest(y_of(x, mu), law.cdf).pvalue)
    at = law.points(DENSITIES, mu, rng)
    with contextlib.suppress(Exception):
        log_prob: Array = peer(mu, kappas)[1](at).double().numpy()
        error = float(np.abs(log_prob - law.log_prob(y_of(at, mu))).max())
    return p_value, error if np.isfinite(error) else np.inf


def measure(dimensions: tuple[int, ...], kappas: tuple[float, ...]) -> dict[str, Any]:
    maps: dict[str, Any] = clock.description("cpu") | {
        "dtype": "float32",
        "samples": SAMPLES,
        "densities": DENSITIES,
        "d": dimensions,
        "kappa": kappas,
        "families": {},
    }
    for family, peers in PEERS.items():
        maps["families"][family] = {}
        for name, load in peers.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    peer = load()
                except (ImportError, AttributeError):  # the library lacks the family
                    continue
                cells = [[grade(peer, family, d, k) for k in kappas] for d in dimensions]
            p_value, nats = np.moveaxis(np.array(cells), -1, 0)
            finite = np.isfinite(nats)
            maps["families"][family][name] = {
                "samples_wrong": int((~(p_value >= P_VALUE)).sum()),
                "densities_wrong": int((finite & (nats > NATS)).sum()),
                "densities_not_finite": int((~finite).sum()),
                "worst_nats": float(f"{nats[finite].max(initial=0):.3g}"),
                "p_value": _rounded(p_value),
                "log_prob_nats": _rounded(nats),
            }
    return maps


def _rounded(table: Array) -> list[list[float | None]]:
    """The table with three digits, and None for infinity and NaN, which JSON lacks."""
    return [[float(f"{v:.3g}") if np.isfinite(v) else None for v in row] for row in table]


def main() -> None:
    maps = measure(DIMENSIONS, KAPPAS)
    RESULTS.mkdir(exist_ok=True)
    lines = json.dumps(maps).replace('"families"', '\n"families"').replace("}, ", "},\n")
    (RESULTS / "stability.json").write_text(lines.replace("], [", "],\n [") + "\n")


if __name__ == "__main__":
    main()

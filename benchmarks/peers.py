"""The table of the implementations that are compared.

To add a peer, write its functions and a row of PEERS. A function has the signature of its quantity
in `work.QUANTITIES`. The runner of the row (torch, NumPy, JAX) converts the inputs, differentiates
and waits for the result. A peer is left out of the quantities and families that it lacks, and
`work.check` decides if its results are right.
"""

from __future__ import annotations

from typing import Any

import torch
from peer import Functions, Peer
from torch import Tensor
from work import Case, function, inputs, pair_loss

import powerspherical_ext
from powerspherical_ext import ops


def _ours(case: Case) -> Functions:
    family = getattr(powerspherical_ext, case.family)
    options = {"distribution": case.declared_family.name, "relative_to_uniform": False}

    def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        density: Tensor = family(loc, kappa, validate_args=False).log_prob(x)
        return density

    def loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
        one = powerspherical_ext.vi_simsiam_loss(p1, z2, k1, **options)
        return one + powerspherical_ext.vi_simsiam_loss(p2, z1, k2, **options)

    return {
        "log_prob": log_prob,
        "log_prob of one law": log_prob,
        "raw log_prob": lambda x, loc, kappa: ops.log_prob(x, loc, kappa, case.declared_family),
        "validated log_prob": lambda x, loc, kappa: family(loc, kappa, validate_args=True).log_prob(
            x
        ),
        "rsample": lambda loc, kappa: family(loc, kappa, validate_args=False).rsample(),
        "loss": loss,
    }


def _reference(case: Case) -> Functions:
    # Larger cases take seconds a call: the random numbers of the kernels come from torch
    # operations, and a series has a hundred terms in memory for each concentration.
    large = case.n > 1 << 17 or (case.quantity == "rsample" and case.n * case.d > 1 << 15)
    if large or case.quantity in ("raw log_prob", "validated log_prob"):
        return {}
    return {case.quantity: function(case)}


def _power_spherical(case: Case) -> Functions:
    from power_spherical import PowerSpherical

    def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        return PowerSpherical(loc, kappa, validate_args=False).log_prob(x)

    def rsample(loc: Tensor, kappa: Tensor) -> Tensor:
        return PowerSpherical(loc, kappa, validate_args=False).rsample()

    functions = {"log_prob": log_prob, "rsample": rsample, "loss": pair_loss(log_prob)}
    if case.dtype == torch.bfloat16:
        del functions["rsample"]  # not implemented: torch samples no Beta in half precision
    return functions


def _s_vae(case: Case) -> Functions:
    import s_vae

    return {"log_prob": s_vae.log_prob, "rsample": s_vae.rsample}


def _numpy_power_spherical(case: Case) -> Functions:
    import numpy as np
    from scipy.special import gammaln

    rng, b = np.random.default_rng(0), (case.d - 1) / 2

    def log_prob(x: Any, loc: Any, kappa: Any) -> Any:
        kappa = kappa.astype(np.float64)
        a, t = b + kappa, np.einsum("nd,nd->n", x, loc)
        peak = gammaln(a + b) - gammaln(a) - b * np.log(4 * np.pi)
        return peak + kappa * np.log1p((t - 1) / 2)

    def rsample(loc: Any, kappa: Any) -> Any:
        t = (2 * rng.beta(b + kappa, b) - 1).astype(loc.dtype)[:, None]
        v = rng.standard_normal(loc.shape, loc.dtype)
        v -= np.einsum("nd,nd->n", v, loc)[:, None] * loc
        return t * loc + np.sqrt(1 - t * t) * v / np.linalg.norm(v, axis=-1, keepdims=True)

    return {"log_prob": log_prob, "rsample": rsample}


def _scipy_von_mises_fisher(case: Case) -> Functions:
    import numpy as np
    from scipy.special import ive
    from scipy.stats import vonmises_fisher

    v = case.d / 2 - 1

    def log_prob(x: Any, loc: Any, kappa: Any) -> Any:
        kappa = kappa.astype(np.float64)
        t = np.einsum("nd,nd->n", x, loc)
        peak = v * np.log(kappa) - (v + 1) * np.log(2 * np.pi) - np.log(ive(v, kappa))
        return peak + kappa * (t - 1)

    def of_one_law(x: Any, loc: Any, kappa: Any) -> Any:
        # A float64 mean direction, of length one to the tolerance of SciPy's check.
        loc = loc.astype(np.float64)
        return vonmises_fisher(loc / np.linalg.norm(loc), float(kappa)).logpdf(x)

    return {"log_prob": log_prob, "log_prob of one law": of_one_law}


def _tfp_jax(case: Case) -> Functions:
    from tensorflow_probability.substrates.jax import distributions

    family = getattr(distributions, case.family, None)
    if family is None:
        return {}

    def log_prob(x: Any, loc: Any, kappa: Any, key: Any) -> Any:
        return family(loc, kappa).log_prob(x)

    functions = {"log_prob": log_prob, "log_prob of one law": log_prob}
    # The rejection loop of von Mises-Fisher has no reverse mode. In d = 3 there is no such loop.
    if case.family == "PowerSpherical" or case.d == 3 or not case.backward:
        functions["rsample"] = lambda loc, kappa, key: family(loc, kappa).sample(seed=key)
    return functions


def _torch_von_mises(case: Case) -> Functions:
    def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        angle, centre = (torch.atan2(v[..., 1], v[..., 0]) for v in (x, loc))
        law = torch.distributions.VonMises(centre, kappa, validate_args=False)
        density: Tensor = law.log_prob(angle)
        return density

    return {"log_prob": log_prob}


def _numpyro_von_mises(case: Case) -> Functions:
    from jax import numpy as jnp
    from numpyro.distributions import VonMises

    def log_prob(x: Any, loc: Any, kappa: Any, key: Any) -> Any:
        angle, centre = (jnp.arctan2(v[..., 1], v[..., 0]) for v in (x, loc))
        return VonMises(centre, kappa).log_prob(angle)

    return {"log_prob": log_prob}


def _without_validation(case: Case) -> Functions:
    return {"validated log_prob": _ours(case)["log_prob"]}


def _normal(case: Case) -> Functions:
    deviation = inputs(case)[0][0].abs() + 1

    def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        density: Tensor = torch.distributions.Normal(loc, deviation, validate_args=True).log_prob(x)
        return density

    return {"validated log_prob": log_prob}


def _dot(case: Case) -> Functions:
    return {"raw log_prob": lambda x, loc, kappa: torch.dot(x.view(-1), loc.view(-1))}


CIRCLE = ((65536, 2),)
COMPILED = ((512, 2048), (4096, 2048), (65536, 2048))

# "ours" comes first: ratios are to it.
PEERS = (
    Peer("ours", _ours, in_both_memories=True),
    Peer("plain torch", _reference, note="`powerspherical_ext.reference`", rival=False),
    Peer(
        "plain torch, compiled",
        _reference,
        note="the same, by torch.compile; densities of Power Spherical take too long to compile",
        families=("VonMisesFisher",),
        sizes=COMPILED[1:],
        quantities=("log_prob",),
        compiles=True,
        rival=False,
    ),
    Peer(
        "power-spherical",
        _power_spherical,
        needs="power_spherical",
        families=("PowerSpherical",),
        in_both_memories=True,
        flaw="computes in half precision when its arguments are",
    ),
    Peer(
        "power-spherical, compiled",
        _power_spherical,
        needs="power_spherical",
        families=("PowerSpherical",),
        sizes=COMPILED,
        in_both_memories=True,
        quantities=("log_prob",),
        compiles=True,
    ),
    Peer(
        "s-vae style",
        _s_vae,
        note="the rejection sampler of Davidson et al. (2018) as commonly copied; see `s_vae.py`",
        needs="scipy.special",
        families=("VonMisesFisher",),
        flaw="an approximate envelope above kappa = 10, a gradient that ignores rejection, and a "
        "Bessel function that underflows",
    ),
    Peer(
        "NumPy/SciPy",
        _numpy_power_spherical,
        note="nothing there is Power Spherical: what one writes with `scipy.special` and "
        "`numpy.random`; no gradient",
        runner="numpy",
        needs="scipy.special",
        families=("PowerSpherical",),
        backward=False,
    ),
    Peer(
        "SciPy",
        _scipy_von_mises_fisher,
        note="`scipy.stats.vonmises_fisher` for one law; it takes no batches: for these what one "
        "writes with `scipy.special.ive`. float64, no gradient",
        runner="numpy",
        needs="scipy.stats",
        families=("VonMisesFisher",),
        backward=False,
        flaw="its Bessel function underflows",
    ),
    Peer(
        "TFP on JAX",
        _tfp_jax,
        note="jitted; no gradient through its von Mises-Fisher samples unless d = 3",
        runner="jax",
        needs="tensorflow_probability.substrates.jax",
    ),
    Peer(
        "torch VonMises",
        _torch_von_mises,
        note="`torch.distributions`, by angles; it has no other law on a sphere",
        families=("VonMisesFisher",),
        sizes=CIRCLE,
    ),
    Peer(
        "NumPyro VonMises",
        _numpyro_von_mises,
        note="jitted, by angles; of the laws here it has no other",
        runner="jax",
        needs="numpyro",
        families=("VonMisesFisher",),
        sizes=CIRCLE,
    ),
    Peer(
        "without validation",
        _without_validation,
        note="ours with `validate_args=False`",
        quantities=("validated log_prob",),
        rival=False,
    ),
    Peer(
        "torch Normal",
        _normal,
        note="a yardstick: `torch.distributions.Normal` of as many numbers, with validation",
        quantities=("validated log_prob",),
        part=True,
        rival=False,
    ),
    Peer(
        "torch.dot",
        _dot,
        note="a yardstick: the same bytes, without rows",
        quantities=("raw log_prob",),
        part=True,
        rival=False,
    ),
)
OURS = PEERS[0]

"""The ops as their tests call them: with the family of the fixture, on random inputs."""

from __future__ import annotations

import sys

import pytest
import torch
from cases import CONCENTRATED, concentration_at, unit

from powerspherical_ext import PowerSpherical, ops
from powerspherical_ext.families import FAMILIES

FAMILY, DISTRIBUTION = FAMILIES[0], PowerSpherical  # unless a test asks for each
STATE = torch.tensor([3, 4])  # rng_state of all samples
raw = torch.ops.powerspherical_ext


@pytest.fixture(params=CONCENTRATED, ids=str)
def family(request, monkeypatch):
    """Runs a test, and what it calls of this module, with each family."""
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "FAMILY", request.param.declared)
    monkeypatch.setattr(module, "DISTRIBUTION", request.param.distribution)
    return request.param


def inputs(*batch, d=5, dtype=torch.float64, grad=False):
    """value, loc, concentration of one batch shape, in the domain of the family."""
    loc = unit(*batch, d, dtype=dtype)
    value = unit(*batch, d, dtype=dtype, seed=1)
    kappa = 1 + 20 * torch.rand(batch, generator=torch.Generator().manual_seed(0), dtype=dtype)
    kappa = concentration_at(FAMILY, kappa)
    return [tensor.requires_grad_(grad) for tensor in (value, loc, kappa)]


def log_prob(value, loc, kappa):
    return ops.log_prob(value, loc, kappa, FAMILY)


def rsample(loc, kappa):
    return ops.rsample(loc, kappa, STATE, FAMILY)


# The arguments of the raw ops: v is a vector (..., d), s a scalar (...).
ARGUMENTS = {
    "scalar_function": "s d family function",
    "kl": "s s s s d family family function",
    "log_prob": "v v s family",
    "log_prob_on_sphere": "v v s family tolerance",
    "log_prob_backward": "s v v s family needs_grad",
    "rsample": "v s state family",
    "rsample_rounded": "v s state family",
    "rsample_backward": "v v v s family needs_grad",
    "vi_simsiam_loss": "s v v s family beta needs_grad",
    "on_sphere": "v tolerance",
    "in_interval": "s lower upper",
}


def operands(name):
    """The kinds of the tensors that a raw op takes first."""
    return [kind for kind in ARGUMENTS[name].split() if kind in ("v", "s")]


def call_raw(name, tensors, **others):
    """Calls a raw op with its tensors and, where others does not say otherwise, plain integers."""
    defaults = {"d": 5, "family": FAMILY.index, "function": 0, "needs_grad": 7, "beta": 0.0}
    checks = {"tolerance": 1e-3, "lower": 0.0, "upper": 1.0}
    settings = {**defaults, **checks, "state": STATE, **others}
    rest = [settings[kind] for kind in ARGUMENTS[name].split() if kind not in ("v", "s")]
    result = getattr(raw, name)(*tensors, *rest)
    return result if isinstance(result, tuple) else (result,)

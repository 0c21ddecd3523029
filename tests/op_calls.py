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

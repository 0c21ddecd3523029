"""Features and concentrations as losses take them; comparison with a published formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import CONCENTRATED, concentration_at

from powerspherical_ext.families import FAMILIES as DECLARED
from powerspherical_ext.families import family_named

N, D = 7, 12
FAMILIES = {row.declared.name: row.distribution for row in CONCENTRATED}


def features(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def concentrations(*shape, seed=0, dtype=torch.float64, name=DECLARED[0].name, scale=1):
    """In the domain of the distribution of that name."""
    generator = torch.Generator().manual_seed(100 + seed)
    kappa = scale * (5 + 40 * torch.rand(shape, generator=generator, dtype=dtype))
    return in_domain(name, kappa).requires_grad_()


def in_domain(name, kappa):
    """What stands for that concentration in the distribution of that name."""
    return concentration_at(family_named(name), kappa)


def unit(x):
    return F.normalize(x, dim=-1)


def assert_same(ours, published, inputs, factor=1.0, constant=0.0):
    """ours = factor * published + constant, and the gradients accordingly; none is zero."""
    torch.testing.assert_close(ours, factor * published + constant)
    gradients = (torch.autograd.grad(x, inputs, retain_graph=True) for x in (ours, published))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, factor * b)
        assert a.abs().max() > 1e-8

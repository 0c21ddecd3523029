"""The derivatives of every divergence of csrc/math/kl_*.h are those of its reference."""

from __future__ import annotations

import ctypes

import cases
import numpy as np
import pytest
import torch
from scalar_calls import call

from powerspherical_ext.families import FAMILIES

KAPPAS = {row.declared.name: row.kappas[1:-2] for row in cases.CONCENTRATED}
PAIRS = [(p, q) for p in FAMILIES for q in FAMILIES if q.name in p.kl]


@pytest.mark.slow
@pytest.mark.parametrize(("p", "q"), PAIRS, ids=lambda family: family.name)
def test_kl_derivatives(p, q, compiled: ctypes.CDLL) -> None:
    """Those of csrc are autograd's of the reference, with cos2 = 1 - sin2."""
    kappas = np.array(KAPPAS[p.name]), 0.7 * np.array(KAPPAS[q.name])
    inputs = [x.ravel() for x in np.meshgrid(*kappas, np.array([1e-3, 0.3]))]
    inputs.append(1 - inputs[-1])
    name_p, name_q = (family.name.title().replace("_", "") for family in (p, q))
    struct = f"Kl{name_p}" if p is q else f"Kl{name_p}{name_q}"
    for d in (2, 7, 64, 5000):
        kappa_p, kappa_q, sin2 = (torch.from_numpy(x).requires_grad_() for x in inputs[:3])
        value = p.kl[q.name](kappa_p, kappa_q, d, sin2, 1 - sin2)
        gradients = torch.autograd.grad(value.sum(), (kappa_p, kappa_q, sin2))
        rows = np.full(len(inputs[0]), d)
        names = ("kl_dkappa_p", "kl_dkappa_q", "kl_dsin2")
        for name, gradient in zip(names, gradients, strict=True):
            result = call(compiled, f"{struct}_{name}", rows, inputs, "float64")
            np.testing.assert_allclose(result, gradient.numpy(), rtol=1e-8, atol=1e-13)

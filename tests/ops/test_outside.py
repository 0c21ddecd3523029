"""Raw ops at concentrations outside of the domain: NaN at once in those rows, and in no other."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from cases import needs_kernels, unit
from outside import assert_nan_outside, concentrations, is_outside, watchdog
from torch import Tensor

from powerspherical_ext.families import FAMILIES, Family

pytestmark = [needs_kernels, pytest.mark.usefixtures(watchdog.__name__)]

raw: Any = torch.ops.powerspherical_ext
DIMENSIONS = (2, 3, 4, 5, 17, 64, 2000)
SEED = 5

each_law = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
each_kind = pytest.mark.parametrize(
    ("dtype", "vectors"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.float16),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
    ],
    ids=str,
)


def calls(
    family: Family, x: Tensor, mu: Tensor, grad: Tensor, kappa: Tensor, offset: int
) -> dict[str, tuple[Tensor, ...]]:
    """What the ops of rows return, by a name."""
    f, state = family.index, torch.tensor([SEED, offset])
    sample = raw.rsample(mu, kappa, state, f)
    results = {"log_prob": (raw.log_prob(x, mu, kappa, f),), "rsample": (sample,)}
    upstream = grad[..., 0].to(kappa.dtype)
    for bits in (1, 2, 4, 7):
        results[f"log_prob_backward {bits}"] = raw.log_prob_backward(upstream, x, mu, kappa, f, bits)
    for bits, of in itertools.product((2, 4, 6), (sample, x.to(kappa.dtype))):
        name = f"rsample_backward {bits} of {'sample' if of is sample else 'x'}"
        results[name] = raw.rsample_backward(grad.to(kappa.dtype), of, mu, kappa, f, bits)
    for bits, beta in ((0, 0.0), (7, 0.0), (7, 0.5), (3, 1.0), (4, 1.0)):
        results[f"loss {bits} {beta}"] = raw.vi_simsiam_loss(
            upstream, 3 * mu, 2 * x, kappa, f, beta, bits
        )
    return results


@each_law
@each_kind
@pytest.mark.parametrize("d", DIMENSIONS)
def test_ops_of_rows(
    family: Family, d: int, dtype: torch.dtype, vectors: torch.dtype
) -> None:
    kappa = concentrations(family, dtype)
    outside, n = is_outside(family, kappa), len(kappa)
    x, mu, grad = (unit(n, d, dtype=vectors, seed=seed) for seed in range(3))
    together = calls(family, x, mu, grad, kappa, 0)
    alone = [
        calls(family, *(v[i : i + 1] for v in (x, mu, grad, kappa)), i)
        for i in (range(n) if d < 2000 else range(0, n, 5))
        if not outside[i]
    ]
    rows = [i for i in (range(n) if d < 2000 else range(0, n, 5)) if not outside[i]]
    for name, results in together.items():
        for k, result in enumerate(results):
            if not result.numel():
                continue
            try:
                assert_nan_outside(result, outside, finite=vectors is not torch.float16)
            except AssertionError as e:
                raise AssertionError((name, k, kappa, result)) from e
            for i, one in zip(rows, alone, strict=True):
                assert torch.equal(one[name][k][0], result[i]), (name, k, kappa[i])


@each_law
@each_dtype
@pytest.mark.parametrize("d", DIMENSIONS)
def test_scalar_functions(family: Family, d: int, dtype: torch.dtype) -> None:
    kappa = concentrations(family, dtype)
    outside = is_outside(family, kappa)
    for function in range(7):
        result = raw.scalar_function(kappa, d, family.index, function)
        assert_nan_outside(result, outside)
        for i, k in enumerate(kappa):
            one = raw.scalar_function(k, d, family.index, function)
            assert torch.equal(one, result[i]) or outside[i]


@each_dtype
@pytest.mark.parametrize("d", [2, 3, 17, 2000])
@pytest.mark.parametrize(
    ("p", "q"),
    [(p, q) for p in FAMILIES for q in FAMILIES if q.name in p.kl],
    ids=lambda family: family.name,
)
def test_divergences(p: Family, q: Family, d: int, dtype: torch.dtype) -> None:
    """Each family has its own domain."""
    kappas_p, kappas_q = concentrations(p, dtype), concentrations(q, dtype, seed=1)
    half = torch.full_like(kappas_p, 0.5)
    kappa_p = torch.cat([kappas_p, half, kappas_p])
    kappa_q = torch.cat([half, kappas_q, kappas_q])
    outside = is_outside(p, kappa_p) | is_outside(q, kappa_q)
    sin2 = torch.linspace(0, 1, len(kappa_p), dtype=dtype)
    for function in range(4):
        arguments = d, p.index, q.index, function
        result = raw.kl(kappa_p, kappa_q, sin2, 1 - sin2, *arguments)
        try:
            assert_nan_outside(result, outside)
        except AssertionError as e:
            raise AssertionError((function, kappa_p, kappa_q, sin2, result)) from e


@each_law
@each_kind
@pytest.mark.parametrize("d", [2, 3, 5, 17, 300])
@pytest.mark.parametrize("operand", range(4), ids=["x", "mu", "grad", "kappa"])
def test_nan_in_an_operand(
    family: Family, d: int, operand: int, dtype: torch.dtype, vectors: torch.dtype
) -> None:
    """A row is NaN where one element is, for every concentration; its neighbours do not change."""
    kappa = family.upper_bound / 2 * torch.linspace(0, 1, 12, dtype=torch.float64).pow(20).to(dtype)
    tensors = [*(unit(12, d, dtype=vectors, seed=seed) for seed in range(3)), kappa]
    before = calls(family, *tensors, 0)
    broken = tensors[operand].clone()
    rows = torch.arange(12) % 3 == 0
    if operand == 3:
        broken[rows] = torch.nan
    else:
        broken[rows, 0 if operand == 2 else -1] = torch.nan
    tensors[operand] = broken
    used = {0: ("of x", "log_prob", "loss"), 1: ("",), 2: ("backward",), 3: ("",)}[operand]
    for name, results in calls(family, *tensors, 0).items():
        if operand == 2 and name.startswith("loss"):
            continue
        for old, new in zip(before[name], results, strict=True):
            if not new.numel():
                continue
            assert torch.equal(old[~rows], new[~rows]), name
            if any(part in name for part in used):
                assert new[rows].isnan().all(), (name, new)

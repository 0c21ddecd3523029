"""Raw ops at concentrations outside of the domain: NaN at once in those rows, and in no other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import needs_kernels, unit
from outside import assert_nan_outside, concentrations, each_law, is_outside, row_ops, watchdog

from powerspherical_ext.families import FAMILIES, Family

pytestmark = [needs_kernels, pytest.mark.usefixtures(watchdog.__name__)]

raw: Any = torch.ops.powerspherical_ext

each_float = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
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


@each_law
@each_kind
@pytest.mark.parametrize("d", [2, 3, 4, 5, 17, 64, 2000])
def test_ops_of_rows(law: Family, d: int, dtype: torch.dtype, vectors: torch.dtype) -> None:
    """A row has the bits that it has alone."""
    kappa = concentrations(law, dtype)
    outside, n = is_outside(law, kappa), len(kappa)
    tensors = [*(unit(n, d, dtype=vectors, seed=seed) for seed in range(3)), kappa]
    together = row_ops(raw, law, *tensors)
    for name, results in together.items():
        for result in results:
            if result.numel():  # gradients of float16 overflow
                assert_nan_outside(result, outside, finite=result.dtype is not torch.float16)
        assert any(result.numel() for result in results), name
    for i in range(0, n, 5 if d == 2000 else 1):
        for name, results in row_ops(raw, law, *(x[i : i + 1] for x in tensors), i).items():
            for one, all_rows in zip(results, together[name], strict=True):
                assert outside[i] or torch.equal(one, all_rows[i : i + 1]), (name, kappa[i])


@each_law
@each_float
@pytest.mark.parametrize("d", [2, 3, 4, 5, 17, 64, 2000])
def test_scalar_functions(law: Family, d: int, dtype: torch.dtype) -> None:
    kappa = concentrations(law, dtype)
    outside = is_outside(law, kappa)
    for function in range(7):
        result = raw.scalar_function(kappa, d, law.index, function)
        assert_nan_outside(result, outside)
        one_by_one = [raw.scalar_function(k, d, law.index, function) for k in kappa]
        assert torch.equal(torch.stack(one_by_one)[~outside], result[~outside])


@each_float
@pytest.mark.parametrize("d", [2, 3, 17, 2000])
@pytest.mark.parametrize(
    ("p", "q"),
    [(p, q) for p in FAMILIES for q in FAMILIES if q.name in p.kl],
    ids=lambda law: law.name,
)
def test_divergences(p: Family, q: Family, d: int, dtype: torch.dtype) -> None:
    """Each of the two concentrations has the domain of its own family; NaN in the angle, too."""
    kappas_p, kappas_q = concentrations(p, dtype), concentrations(q, dtype, seed=1)
    half = torch.full_like(kappas_p, 0.5)
    kappa_p = torch.cat([kappas_p, half, kappas_p])
    kappa_q = torch.cat([half, kappas_q, kappas_q])
    outside = is_outside(p, kappa_p) | is_outside(q, kappa_q)
    sin2 = torch.linspace(0, 1, len(kappa_p), dtype=dtype)
    for function in range(4):
        arguments = d, p.index, q.index, function
        assert_nan_outside(raw.kl(kappa_p, kappa_q, sin2, 1 - sin2, *arguments), outside)
    nan = torch.full_like(sin2, torch.nan)
    for function in range(3):  # kl_dsin2 may be the same for every angle
        assert raw.kl(kappa_p, kappa_q, nan, nan, d, p.index, q.index, function).isnan().all()


@each_law
@each_kind
@pytest.mark.parametrize("d", [2, 3, 5, 17, 300])
@pytest.mark.parametrize("operand", ["x", "mu", "grad", "kappa"])
def test_nan_in_an_operand(
    law: Family, d: int, operand: str, dtype: torch.dtype, vectors: torch.dtype
) -> None:
    """A row is NaN if one element is, for every kappa, 0 among them; its neighbours are not."""
    n = 12
    kappa = law.upper_bound / 2 * torch.linspace(0, 1, n, dtype=torch.float64).pow(20).to(dtype)
    tensors = dict(zip(("x", "mu", "grad"), unit(3, n, d, dtype=vectors), strict=True))
    tensors["kappa"] = kappa
    before = row_ops(raw, law, *tensors.values())
    rows = torch.arange(n) % 3 == 0
    broken = tensors[operand].clone()
    broken.view(n, -1)[rows, 0] = torch.nan
    for name, results in row_ops(raw, law, *{**tensors, operand: broken}.values()).items():
        for i, (old, new) in enumerate(zip(before[name], results, strict=True)):
            if not new.numel():
                continue
            assert torch.equal(old[~rows], new[~rows]), name
            is_read = {
                "x": "rsample" not in name or "at x" in name,
                "grad": "backward" in name or ("loss" in name and i > 0),
            }
            if is_read.get(operand, True):
                assert new[rows].isnan().all(), (name, new)


@each_law
def test_nan_beside_a_vector_without_direction(law: Family) -> None:
    kappa = torch.full((2,), 0.5)
    vectors = torch.tensor([[0.0, 0.0, 0.0], [torch.nan, 1.0, 1.0]])
    for results in (
        raw.vi_simsiam_loss(kappa, vectors, vectors.flip(0), kappa, law.index, beta, 7)
        for beta in (0.0, 1.0)
    ):
        assert all(result.isnan().all() for result in results)

"""Concentrations at and beyond the ends of the domain of a family, and what must hold of them."""

from __future__ import annotations

import faulthandler
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from powerspherical_ext.families import FAMILIES, Family

TIME_LIMIT = 300.0  # seconds, for a test that takes one or two
NUMBERS = (-math.inf, -1e300, -1e9, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1e-20, 1e-3, 0.5, 1.0, 30.0)
NUMBERS += (1e4, 1e8, 1e12, 1e15, 1e16, 1e20, 3e38, 1e150, 9.1e307, 1.79e308, math.inf, math.nan)

each_law = pytest.mark.parametrize("law", FAMILIES, ids=lambda law: law.name)


@pytest.fixture
def watchdog() -> Iterator[None]:
    """Ends the process, with a traceback, if the test hangs: also in a kernel."""
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def concentrations(law: Family, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """NUMBERS, and those around the bound of the family, in random order (n,)."""
    end = torch.tensor(law.upper_bound, dtype=dtype)
    around = [torch.nextafter(end, 0 * end), end, torch.nextafter(end, 2 * end), end / 2]
    kappa = torch.cat([torch.tensor(NUMBERS, dtype=torch.float64).to(dtype), torch.stack(around)])
    return kappa[torch.randperm(len(kappa), generator=torch.Generator().manual_seed(seed))]


def is_outside(law: Family, kappa: Tensor) -> Tensor:
    return torch.tensor([not 0 <= x < law.upper_bound for x in kappa.tolist()])


def assert_nan_outside(result: Tensor, outside: Tensor, finite: bool = True) -> None:
    """The rows (n, ...) that are outside are NaN in all elements, and the others in none."""
    rows = result.detach().reshape(len(outside), -1)
    assert torch.equal(rows.isnan().all(-1), outside), rows
    inside = rows[~outside]
    assert (inside.isfinite() if finite else ~inside.isnan()).all(), rows


def row_ops(
    raw: Any, law: Family, x: Tensor, mu: Tensor, grad: Tensor, kappa: Tensor, offset: int = 0
) -> dict[str, Sequence[Tensor]]:
    """The results of every op of rows of a namespace, by the op and how it was called.

    x, mu and grad (n, d); kappa (n,). A result that is not wanted has no elements.
    """
    family, state, upstream = law.index, torch.tensor([5, offset]), grad[..., 0].to(kappa.dtype)
    sample, direction, grad = raw.rsample(mu, kappa, state, family), x, grad.to(kappa.dtype)
    results = {"log_prob": (raw.log_prob(x, mu, kappa, family),), "rsample": (sample,)}
    for bits in (1, 2, 4, 7):
        arguments = upstream, x, mu, kappa, family, bits
        results[f"log_prob_backward {bits}"] = raw.log_prob_backward(*arguments)
    for bits, (at, name) in itertools.product(
        (2, 4, 6), ((sample, "sample"), (direction.to(kappa.dtype), "x"))
    ):
        arguments = grad, at, mu, kappa, family, bits
        results[f"rsample_backward {bits} at {name}"] = raw.rsample_backward(*arguments)
    for bits, beta in ((0, 0.0), (7, 0.0), (7, 0.5), (3, 1.0), (4, 1.0)):
        arguments = upstream, 3 * mu, 2 * x, kappa, family, beta, bits
        results[f"loss {bits} {beta}"] = raw.vi_simsiam_loss(*arguments)
    return results

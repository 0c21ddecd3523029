"""Concentrations at and beyond the ends of the domain of a family, and what must hold of them."""

from __future__ import annotations

import faulthandler
import math
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from powerspherical_ext.families import Family

TIME_LIMIT = 300.0  # seconds, for a test that takes a few
NUMBERS = (-math.inf, -1e300, -1e9, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1e-20, 1e-3, 0.5, 1.0, 30.0)
NUMBERS += (1e4, 1e8, 1e12, 1e15, 1e16, 1e20, 3e38, 1e150, 9.1e307, 1.79e308, math.inf, math.nan)


@pytest.fixture
def watchdog() -> Iterator[None]:
    """Ends the process, with a traceback, if the test hangs: also in a kernel."""
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def concentrations(family: Family, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """NUMBERS, and those around the bound of the family, in random order (n,)."""
    end = torch.tensor(family.upper_bound, dtype=dtype)
    zero = torch.zeros_like(end)
    around = torch.stack([torch.nextafter(end, zero), end, torch.nextafter(end, 2 * end), end / 2])
    kappa = torch.cat([torch.tensor(NUMBERS, dtype=torch.float64).to(dtype), around])
    return kappa[torch.randperm(len(kappa), generator=torch.Generator().manual_seed(seed))]


def is_outside(family: Family, kappa: Tensor) -> Tensor:
    return torch.tensor([not 0 <= x < family.upper_bound for x in kappa.tolist()])


def assert_nan_outside(result: Tensor, outside: Tensor, finite: bool = True) -> None:
    """The rows (n, ...) that are outside are NaN in all elements, and the others in none."""
    rows = result.detach().reshape(len(outside), -1)
    wrong = rows.isnan().all(-1) != outside
    assert not wrong.any(), (outside, rows)
    inside = rows[~outside]
    assert bool((inside.isfinite() if finite else ~inside.isnan()).all()), inside

"""How the tests of csrc/math read tables of mpmath values and call a function on their columns."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TABLES = Path(__file__).parents[1] / "tables"
DTYPES = {"float32": torch.float32, "float64": torch.float64}

Column = NDArray[Any]


@cache
def load(table: str) -> dict[str, Column]:
    """The columns of a table, in float64."""
    lines = (TABLES / f"{table}.csv").read_text().splitlines()
    rows = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    columns = dict(zip(lines[0].split(","), rows.T, strict=True))
    if "kl_uniform" in columns and "kl_uniform_dkappa" not in columns:  # of exponential families
        kappa, slope = columns["kappa"], columns["log_prob_at_mode_dkappa"]
        columns["log_prob_at_mode_over_uniform"] = columns["kl_uniform"] + kappa * slope
        columns["kl_uniform_dkappa"] = -kappa * columns["log_prob_at_mode_dkappa2"]
        columns["mean_resultant_length_dkappa"] = (
            -columns["log_prob_at_mode_dkappa2"]
            if table == "von_mises_fisher"
            else (columns["d"] - 1) / (columns["d"] - 1 + kappa) ** 2
        )
    return columns


def call(
    library: ctypes.CDLL, symbol: str, d: Column, inputs: Sequence[Column], dtype: str
) -> Column:
    out = np.empty(len(d), dtype)
    d = np.ascontiguousarray(d, dtype=np.int64)
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (d, *inputs, out)]
    getattr(library, f"{symbol}_{dtype}")(ctypes.c_int64(len(d)), *pointers)
    return out


def by_dimension(function: Callable[..., Tensor], d: Column, inputs: Sequence[Column]) -> Column:
    """function(kappa, d, y, z) or (kappa, kappa_q, d, y, z), over rows of equal, static d."""
    out = np.empty_like(inputs[0])
    for value in np.unique(d):
        rows = d == value
        tensors: list[Any] = [torch.from_numpy(x[rows]) for x in inputs]
        tensors.insert(2 if len(tensors) == 4 else 1, int(value))
        out[rows] = function(*tensors).numpy()
    return out

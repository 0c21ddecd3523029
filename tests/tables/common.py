"""What the table generators share: the grid of (d, kappa) and the csv format.

A table's first columns are the arguments, every number of which is a float32; the others are values
of the functions named in the header, to 20 digits, computed by mpmath at 50 digits or more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import mpmath
import numpy as np

mpmath.mp.dps = 50

DIMENSIONS = (2, 3, 4, 5, 7, 8, 9, 11, 14, 17, 19, 24, 32, 64, 257, 2048, 10**5, 10**6)
KAPPAS = (0.0, 1e-6, 1e-3, 0.03, 0.3, 1.0, 3.0, 7.0, 12.0, 30.0, 100.0, 1e3, 1e5, 1e7)
RANDOM_POINTS = 240

# Heads of the tables.
FUNCTIONS = (
    "log_prob_at_mode",
    "log_prob_at_mode_dkappa",
    "log_prob_at_mode_dkappa2",
    "mean_resultant_length",
    "kl_uniform",
    "entropy",
)
IMPLICIT_GRADIENT = ("d", "kappa", "sin2", "cos2", "implicit_gradient")

Point = tuple[int, float, float]  # d, kappa, and the quantile level of t or of sin2


def as_float32(value: float) -> float:
    return float(np.float32(value))


def kappa_grid(seed: int) -> list[tuple[int, float]]:
    """(d, kappa): the product grid, and random points with log-uniform d and kappa."""
    rng = np.random.default_rng(seed)
    points = [(d, as_float32(kappa)) for d in DIMENSIONS for kappa in KAPPAS]
    for _ in range(RANDOM_POINTS):
        d = int(np.exp(rng.uniform(np.log(2), np.log(60 if rng.random() < 0.7 else 1e6))))
        kappa = 10 ** rng.uniform(-2, 2.5 if rng.random() < 0.7 else 7)
        points.append((d, as_float32(kappa)))
    return points


def log_area(d: int) -> mpmath.mpf:
    """Log surface area of S^{d-1}."""
    half = mpmath.mpf(d) / 2
    return mpmath.log(2) + half * mpmath.log(mpmath.pi) - mpmath.loggamma(half)


def thinned(grid: Sequence[Point], hardest: Collection[Point] = ()) -> list[Point]:
    """Every fourth point, all points of the corners in (d, kappa), and the hardest points.

    An odd number of levels makes every fourth point meet each d, each kappa and each level.
    """
    corners = {(d, kappa) for d in (DIMENSIONS[0], DIMENSIONS[-1]) for kappa in (0.0, 1e7)}
    return [p for i, p in enumerate(grid) if i % 4 == 0 or p[:2] in corners or p in hardest]


def write(
    name: str, header: Sequence[str], rows: Iterable[Sequence[int | float | mpmath.mpf]]
) -> None:
    def cell(value: int | float | mpmath.mpf) -> str:
        return mpmath.nstr(value, 20) if isinstance(value, mpmath.mpf) else repr(value)

    lines = [",".join(header), *(",".join(map(cell, row)) for row in rows)]
    (Path(__file__).parent / f"{name}.csv").write_text("\n".join(lines) + "\n")

"""Fits the polynomials of normal.h: prints their float32 coefficients, highest power first.

Each is the polynomial p of the stated degree that minimises the largest relative error of the value
it serves (Remez exchange in 40 digits). Run with mpmath and numpy installed.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 40
GRID = 2000


def remez(
    f: Callable[[mp.mpf], mp.mpf],
    low: mp.mpf,
    high: mp.mpf,
    degree: int,
    weight: Callable[[mp.mpf], mp.mpf],
) -> tuple[list[mp.mpf], mp.mpf]:
    """The p, lowest power first, that minimises max |(p - f) weight|, and that maximum."""
    n = degree + 2
    nodes = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + 0.5) / n) for i in range(n)]
    grid = [low + (high - low) * i / GRID for i in range(GRID + 1)]
    for _ in range(12):
        system = mp.matrix(n, n)
        for i, x in enumerate(nodes):
            for power in range(degree + 1):
                system[i, power] = x**power
            system[i, degree + 1] = (-1) ** i / weight(x)
        solution = mp.lu_solve(system, mp.matrix([f(x) for x in nodes]))
        coefficients = [solution[i] for i in range(degree + 1)]
        errors = [(mp.polyval(coefficients[::-1], x) - f(x)) * weight(x) for x in grid]
        extrema = _alternating_extrema(errors)
        while len(extrema) > n:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        if len(extrema) < n:
            break
        nodes = [grid[i] for i in extrema]
    return coefficients, max(map(abs, errors))


def _alternating_extrema(errors: list[mp.mpf]) -> list[int]:
    last = len(errors) - 1
    turns = [
        i for i in range(1, last) if (errors[i] - errors[i - 1]) * (errors[i + 1] - errors[i]) <= 0
    ]
    chosen: list[int] = []
    for i in [0, *turns, last]:
        if chosen and mp.sign(errors[i]) == mp.sign(errors[chosen[-1]]):
            if abs(errors[i]) > abs(errors[chosen[-1]]):
                chosen[-1] = i
        else:
            chosen.append(i)
    return chosen


def main() -> None:
    def log_tail(g: mp.mpf) -> mp.mpf:  # log1p(g) = g - g^2/2 + g^3 q(g)
        return (mp.log1p(g) - g + g * g / 2) / g**3 if abs(g) > 1e-9 else mp.mpf(1) / 3

    def log_weight(g: mp.mpf) -> mp.mpf:
        return abs(g**3 / mp.log1p(g)) if abs(g) > 1e-9 else mp.mpf("1e-18")

    def sine(x2: mp.mpf) -> mp.mpf:  # sin(pi x) / x in powers of x^2
        return mp.sin(mp.pi * mp.sqrt(x2)) / mp.sqrt(x2) if x2 > 0 else mp.pi

    def cosine(x2: mp.mpf) -> mp.mpf:
        return mp.cos(mp.pi * mp.sqrt(x2))

    half, sixteenth = mp.sqrt(0.5), mp.mpf(1) / 16
    for name, f, low, high, degree, weight in (
        ("log1p tail", log_tail, half - 1, 1 / half - 1, 6, log_weight),
        ("sin", sine, mp.mpf(0), sixteenth, 3, lambda x2: 1 / sine(x2)),
        ("cos", cosine, mp.mpf(0), sixteenth, 4, lambda x2: 1 / cosine(x2)),
    ):
        coefficients, error = remez(f, low, high, degree, weight)
        values = ", ".join(f"{np.float32(float(c)):.9g}f" for c in coefficients[::-1])
        print(f"{name}: relative error {mp.nstr(error, 2)}: {values}")


if __name__ == "__main__":
    main()

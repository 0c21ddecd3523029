"""Writes power_spherical_coefficients.{h,py}: the implicit_gradient expansion, the base points of
log_prob_at_mode, a ratio of gammas.

ImplicitGradient expansion, exact Taylor coefficients:

q = (dz/da) / (z (1 - z)) at a fixed quantile of z ~ Beta(a, b) is expanded as

    q = (1/a) sum_k a^-k sum_{j<=k} x^j Q_kj(l),    x = a / (a + b),   l = log(z / x).

Writing c_1 = 1 - x e^l = 1 - z, the Stein equation of the Beta law gives, order by order,

    (e^l - 1) Q_0 = l,      (e^l - 1) Q_k = (1 - x e^l) Q_{k-1}' - psi_k (1 - x^k),

where log a + sum_k psi_k a^-k is the asymptotic series of digamma (DLMF 5.11.2): psi_1 = -1/2,
psi_2k = -B_2k / 2k. Every right-hand side vanishes at l = 0, so the division is exact in rationals.

Base points: for each d from 8 to 18 the multiple kappa0 of 1/8 closest to the zero of

    log p(mu) = log Gamma(s) - log Gamma(a) - b log(4 pi),  b = (d - 1)/2, a = b + kappa, s = a + b,

and log p(mu) at kappa0. For d < 8 none is needed; from d = 19 on log p(mu) > 0 for every kappa.

Ratio of gammas: Gamma(w + 3/4)/Gamma(w + 1/4) = sqrt(w) F(1/w^2) (Fields 1966), with a polynomial F
that interpolates at Chebyshev nodes, for w >= 8.

Run: python csrc/math/generate_power_spherical_coefficients.py
"""

from fractions import Fraction
from math import comb, factorial
from pathlib import Path

import mpmath

Series = list[Fraction]

ORDERS = {"float": (4, 8), "double": (10, 24)}  # highest power of 1/a, highest power of l


def bernoulli(count: int) -> Series:
    values = [Fraction(1)]
    for n in range(1, count + 1):
        values.append(-sum(comb(n + 1, k) * values[k] for k in range(n)) / (n + 1))
    return values


def divide_by_expm1_over_l(numerator: Series) -> Series:
    """Power series of numerator * l / (e^l - 1)."""
    quotient: Series = []
    for n, value in enumerate(numerator):
        quotient.append(value - sum(q / factorial(n - i + 1) for i, q in enumerate(quotient)))
    return quotient


def times_exp(series: Series) -> Series:
    return [
        sum((series[i] / factorial(n - i) for i in range(n + 1)), Fraction(0))
        for n in range(len(series))
    ]


def expansion(order: int, degree: int) -> list[list[Series]]:
    """Q[k][j] as a power series in l, for k <= order."""
    b = bernoulli(order + 1)
    psi = {1: Fraction(-1, 2)} | {n: -b[n] / n for n in range(2, order + 1, 2)}
    length = degree + 2 * order + 4
    q = [[divide_by_expm1_over_l([Fraction(1)] + [Fraction(0)] * (length - 1))]]
    for k in range(1, order + 1):
        slopes = [[(i + 1) * c for i, c in enumerate(p[1:])] for p in q[-1]]
        rows = [[Fraction(0)] * len(slopes[0]) for _ in range(k + 1)]
        for j, slope in enumerate(slopes):
            rows[j] = [r + s for r, s in zip(rows[j], slope, strict=True)]
            rows[j + 1] = [r - s for r, s in zip(rows[j + 1], times_exp(slope), strict=True)]
        rows[0][0] -= psi.get(k, Fraction(0))
        rows[k][0] += psi.get(k, Fraction(0))
        assert all(row[0] == 0 for row in rows)
        q.append([divide_by_expm1_over_l(row[1:]) for row in rows])
    return q


def flat(order: int, degree: int) -> list[list[float]]:
    """Rows (k, j) = (1, 0), (1, 1), (2, 0), ...; columns: powers of l from 0 to degree."""
    table = expansion(order, degree)
    return [
        [float(c) for c in table[k][j][: degree + 1]]
        for k in range(1, order + 1)
        for j in range(k + 1)
    ]


def log_prob_at_mode(kappa: mpmath.mpf, d: int) -> mpmath.mpf:
    b = mpmath.mpf(d - 1) / 2
    return (
        mpmath.loggamma(2 * b + kappa) - mpmath.loggamma(b + kappa) - b * mpmath.log(4 * mpmath.pi)
    )


def base_points() -> list[tuple[int, float, mpmath.mpf]]:
    """(d, kappa0, log p(mu) at kappa0)."""
    rows = []
    for d in range(8, 19):
        zero = mpmath.findroot(lambda kappa, d=d: log_prob_at_mode(kappa, d), 14.0 - 0.7 * d)
        kappa = round(float(zero) * 8) / 8
        rows.append((d, kappa, log_prob_at_mode(mpmath.mpf(kappa), d)))
    return rows


def half_step() -> list[mpmath.mpf]:
    """The coefficients of F. Its error is 6e-19."""
    degree, largest = 6, mpmath.mpf(1) / 64
    nodes = [
        largest * (1 - mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * degree + 2))) / 2
        for i in range(degree + 1)
    ]

    def exact(z: mpmath.mpf) -> mpmath.mpf:
        w = 1 / mpmath.sqrt(z)
        return mpmath.gammaprod([w + 0.75], [w + 0.25]) / mpmath.sqrt(w)

    powers = mpmath.matrix([[z**j for j in range(degree + 1)] for z in nodes])
    return list(mpmath.lu_solve(powers, mpmath.matrix([exact(z) for z in nodes])))


HEADER = """\
// Q_kj(l) = sum_n c_n l^n: exact rational Taylor coefficients of the implicit_gradient expansion,
// rounded. Written by generate_power_spherical_coefficients.py, which derives them. Do not edit.
#pragma once
#include "portable.h"

// clang-format off
namespace spherical {

// at(row, n): rows (k, j) = (1, 0), (1, 1), (2, 0), ... for power k of 1/a and power j of
// a / (a + b); n is the power of l.
template <class T> struct ImplicitGradientTable;
"""


PYTHON_HEADER = '''\
"""Coefficients of the implicit_gradient expansion and base points of log_prob_at_mode, for
power_spherical.py.

Written by csrc/math/generate_power_spherical_coefficients.py, which derives them. Do not edit.
"""

# ruff: noqa: E501
# fmt: off
'''


def cpp_header() -> list[str]:
    lines = [HEADER]
    for name, (order, degree) in ORDERS.items():
        rows = flat(order, degree)
        digits, suffix = (9, "f") if name == "float" else (17, "")
        lines += [
            f"template <> struct ImplicitGradientTable<{name}> {{",
            f"  static constexpr int order = {order}, degree = {degree};",
            f"  static HD {name} at(int row, int n) {{",
            f"    static constexpr {name} table[{len(rows)}][{degree + 1}] = {{",
        ]
        for row in rows:
            cells = [f"{c:.{digits}g}" for c in row]
            cells = [(c if "." in c or "e" in c else c + ".") + suffix for c in cells]
            lines.append("      {" + ", ".join(cells) + "},")
        lines += ["    };", "    return table[row][n];", "  }", "};", ""]

    base = base_points()
    lines += [
        "// Base points of log_prob_at_mode for d_begin <= d < d_end: kappa0 and log p(mu) there.",
        "template <class T> struct ModeBase {",
        f"  static constexpr int d_begin = {base[0][0]}, d_end = {base[-1][0] + 1};",
    ]
    for name, column in (("kappa", 1), ("value", 2)):
        lines += [
            f"  static HD T {name}(int row) {{",
            f"    static constexpr T table[{len(base)}] = {{",
            *(f"      T({mpmath.nstr(mpmath.mpf(row[column]), 20)})," for row in base),
            "    };",
            "    return table[row];",
            "  }",
        ]
    ratio = half_step()
    lines += [
        "};",
        "",
        "// Gamma(w + 3/4)/Gamma(w + 1/4) = sqrt(w) sum_k c_k w^-2k for w >= 8, to 6e-19.",
        f"constexpr double kHalfStep[{len(ratio)}] = {{",
        *(f"  {mpmath.nstr(c, 20)}," for c in ratio),
    ]
    return [*lines, "};", "", "} // namespace spherical"]


def python_module() -> list[str]:
    order, degree = ORDERS["double"]
    lines = [
        PYTHON_HEADER,
        "# Rows (k, j) = (1, 0), (1, 1), (2, 0), ...: power k of 1/a, power j of a / (a + b).",
        "# Columns: powers of l. The float32 expansion uses the first rows and columns.",
        "IMPLICIT_GRADIENT: tuple[tuple[float, ...], ...] = (",
        *("    (" + ", ".join(map(repr, row)) + ")," for row in flat(order, degree)),
        ")",
        "",
        "# d: (kappa0, log p(mu) at kappa0).",
        "MODE_BASE: dict[int, tuple[float, float]] = {",
        *(f"    {d}: ({kappa!r}, {float(value)!r})," for d, kappa, value in base_points()),
        "}",
    ]
    return lines


def main() -> None:
    mpmath.mp.dps = 50
    here = Path(__file__).resolve().parent
    reference = here.parents[1] / "powerspherical_ext" / "reference"
    for path, lines in (
        (here / "power_spherical_coefficients.h", cpp_header()),
        (reference / "power_spherical_coefficients.py", python_module()),
    ):
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

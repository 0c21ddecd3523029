"""Writes von_mises_fisher_coefficients.h and .py: the coefficients of Debye's expansion.

The uniform expansion of I_v(kappa) for large order (DLMF 10.41.3) is a series sum_k U_k(p) / v^k,
p = v/R, R = sqrt(v^2 + kappa^2). U_k has a factor p^k (DLMF 10.41.9), so that
U_k(p) / v^k = V_k(p^2) / R^k and the logarithm of the series is

    log sum_k V_k(p^2) R^-k = sum_k D_k(p^2) R^-k,      D_k(x) = sum_{j<=k} c_kj x^j,

valid for v = 0 as well, where it is Hankel's expansion. The D_k are exact rationals.

Run: python csrc/math/generate_von_mises_fisher_coefficients.py
"""

from fractions import Fraction
from pathlib import Path

import mpmath

Polynomial = list[Fraction]

ORDERS = {"float": 8, "double": 20}  # highest power of 1/R


def debye_factors(order: int) -> list[Polynomial]:
    """V_k as polynomials in p^2, by DLMF 10.41.9 for U_k in powers of p."""
    u: list[Polynomial] = [[Fraction(1)]]
    for _ in range(order):
        following = [Fraction(0)] * (len(u[-1]) + 3)
        for i, c in enumerate(u[-1]):
            # U_{k+1} = p^2 (1 - p^2) U_k' / 2 + integral_0^p (1 - 5 s^2) U_k(s) ds / 8
            following[i + 1] += c * i / 2 + c / (8 * (i + 1))
            following[i + 3] -= c * i / 2 + 5 * c / (8 * (i + 3))
        u.append(following)
    return [[row[k + 2 * j] for j in range(k + 1)] for k, row in enumerate(u)]


def logarithm(v: list[Polynomial]) -> list[Polynomial]:
    """D_k from k V_k = k D_k + sum_{0<j<k} j D_j V_{k-j}."""
    d: list[Polynomial] = [[Fraction(0)]]
    for k in range(1, len(v)):
        row = [k * c for c in v[k]]
        for j in range(1, k):
            for a, x in enumerate(d[j]):
                for b, y in enumerate(v[k - j]):
                    row[a + b] -= j * x * y
        d.append([c / k for c in row])
    return d


HEADER = """\
// Debye coefficients (DLMF 10.41), exact rationals rounded once.
// Written by generate_von_mises_fisher_coefficients.py, which derives them. Do not edit.
#pragma once
#include "portable.h"

// clang-format off
namespace spherical {

// at(k, j) = c_kj in log sum_k V_k(p^2) R^-k = sum_{k>=1} R^-k sum_{j<=k} c_kj p^2j.
template <class T> struct DebyeTable;
"""


PYTHON_HEADER = '''\
"""Debye coefficients (DLMF 10.41), for von_mises_fisher.py.

Written by csrc/math/generate_von_mises_fisher_coefficients.py, which derives them. Do not edit.
"""

# ruff: noqa: E501
# fmt: off
'''


def literal(value: mpmath.mpf, name: str) -> str:
    text = mpmath.nstr(value, 9 if name == "float" else 17, strip_zeros=False)
    return text + ("f" if name == "float" else "")


def table(name: str, function: str, values: list[mpmath.mpf], arguments: str, at: str) -> list[str]:
    per_line = 6 if name == "float" else 4
    return [
        f"  static HD {name} {function}({arguments}) {{",
        f"    static constexpr {name} table[{len(values)}] = {{",
        *(
            "      " + " ".join(literal(v, name) + "," for v in values[i : i + per_line])
            for i in range(0, len(values), per_line)
        ),
        "    };",
        f"    return table[{at}];",
        "  }",
    ]


def debye() -> list[list[mpmath.mpf]]:
    """Rows k = 1, 2, ...; columns j = 0 .. k."""
    rows = logarithm(debye_factors(max(ORDERS.values())))[1:]
    return [[mpmath.mpf(c.numerator) / c.denominator for c in row] for row in rows]


def cpp_header() -> list[str]:
    lines, rows = [HEADER], debye()
    for name, order in ORDERS.items():
        flat = [c for row in rows[:order] for c in row]
        lines.append(f"template <> struct DebyeTable<{name}> {{")
        lines += table(name, "at", flat, "int k, int j", "(k * (k + 1)) / 2 - 1 + j")
        lines += ["};", ""]
    return [*lines, "} // namespace spherical"]


def python_module() -> list[str]:
    lines = [
        PYTHON_HEADER,
        "# DEBYE[k - 1][j] = c_kj in sum_{k>=1} R^-k sum_{j<=k} c_kj p^2j.",
        "DEBYE: tuple[tuple[float, ...], ...] = (",
        *("    (" + ", ".join(repr(float(c)) for c in row) + ")," for row in debye()),
        ")",
    ]
    return lines


def main() -> None:
    mpmath.mp.dps = 40
    here = Path(__file__).resolve().parent
    reference = here.parents[1] / "powerspherical_ext" / "reference"
    for path, lines in (
        (here / "von_mises_fisher_coefficients.h", cpp_header()),
        (reference / "von_mises_fisher_coefficients.py", python_module()),
    ):
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

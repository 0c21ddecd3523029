"""Writes quadrature.h and reference/quadrature.py: Gauss-Legendre rules on (0, 1).

Zeros of the Legendre polynomial P_n by Newton's method at 40 digits, weights
1/((1 - x^2) P_n'(x)^2) (DLMF 3.5.20, halved for the unit interval).

Run: python csrc/math/generate_quadrature.py
"""

from pathlib import Path

import mpmath
from mpmath import mp, mpf

NODES = {"float": 32, "double": 64}


def rule(n: int) -> tuple[list[str], list[str]]:
    """Nodes, ascending, and weights on (0, 1), to 20 digits."""
    nodes, weights = [], []
    for i in range(n):
        x = -mp.cos(mp.pi * (i + mpf(3) / 4) / (n + mpf(1) / 2))
        for _ in range(6):
            slope = n * (x * mp.legendre(n, x) - mp.legendre(n - 1, x)) / (x * x - 1)
            x -= mp.legendre(n, x) / slope
        slope = n * (x * mp.legendre(n, x) - mp.legendre(n - 1, x)) / (x * x - 1)
        nodes.append(mpmath.nstr((1 + x) / 2, 20))
        weights.append(mpmath.nstr(1 / ((1 - x * x) * slope**2), 20))
    return nodes, weights


def cpp_header() -> list[str]:
    lines = [
        "// Gauss-Legendre rules on (0, 1). Written by generate_quadrature.py; do not edit.",
        "#pragma once",
        '#include "portable.h"',
        "",
        "// clang-format off",
        "namespace spherical {",
        "",
        "template <class T> struct Quadrature;",
        "",
    ]
    for name, n in NODES.items():
        lines += [
            f"template <> struct Quadrature<{name}> {{",
            f"  static constexpr int size = {n};",
        ]
        suffix = "f" if name == "float" else ""
        for function, cells in zip(("node", "weight"), rule(n), strict=True):
            lines += [
                f"  static HD {name} {function}(int i) {{",
                f"    static constexpr {name} table[{n}] = {{",
                *(
                    "      " + ", ".join(cell + suffix for cell in cells[i : i + 4]) + ","
                    for i in range(0, n, 4)
                ),
                "    };",
                "    return table[i];",
                "  }",
            ]
        lines += ["};", ""]
    return [*lines, "} // namespace spherical"]


def python_module() -> list[str]:
    lines = [
        '"""Gauss-Legendre rules on (0, 1): number of nodes: (nodes, weights).',
        "",
        "Written by csrc/math/generate_quadrature.py. Do not edit.",
        '"""',
        "",
        "# fmt: off",
        "GAUSS_LEGENDRE: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {",
    ]
    for n in NODES.values():
        lines.append(f"    {n}: (")
        for cells in rule(n):
            values = [repr(float(cell)) for cell in cells]
            lines += ["        ("]
            lines += ["            " + ", ".join(values[i : i + 3]) + "," for i in range(0, n, 3)]
            lines += ["        ),"]
        lines.append("    ),")
    return [*lines, "}"]


def main() -> None:
    mp.dps = 40
    here = Path(__file__).resolve().parent
    reference = here.parents[1] / "powerspherical_ext" / "reference"
    for path, lines in (
        (here / "quadrature.h", cpp_header()),
        (reference / "quadrature.py", python_module()),
    ):
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

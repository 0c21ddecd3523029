"""Markdown tables, and in their cells numbers over several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Groups = Mapping[str, Mapping[str, Any]]  # the results of one section by method


def markdown(headers: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """A leaf of a report: the sd has n - 1 in it, and is None for one seed."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "values": list(values)}


def cell(leaf: Any, digits: int = 3) -> str:
    """A mean, with its standard deviation where there are several seeds."""
    if not leaf:
        return ""
    mean = short(leaf["mean"], digits)
    return mean if leaf["sd"] is None else f"{mean} ± {short(leaf['sd'], digits)}"


def short(x: float, digits: int = 3) -> str:
    """Without the zero before the point."""
    words = f"{x:.{digits}f}"
    return words.replace("0.", ".", 1) if abs(x) < 1 and digits else words


def measure(leaf: Any) -> str:
    """A number of any size, with three digits or more."""
    if not leaf:
        return ""
    size = abs(leaf["mean"])
    return cell(leaf, 1 if size >= 100 else 2 if size >= 10 else 3)


def means(leaf: Mapping[str, Any]) -> str:
    return measure({**leaf, "sd": None})


def with_p(leaf: Mapping[str, Any], value: str, digits: int = 3) -> str:
    if not leaf or value not in leaf or "p" not in leaf:
        return ""
    return f"{cell(leaf[value], digits)} ({p_words(max(leaf['p']['values']))})"


def p_words(p: float) -> str:
    return f"p {short(p, 3)}"


def union(group: Mapping[str, Any], *paths: tuple[str, ...]) -> list[str]:
    names: dict[str, None] = {}
    for path in paths:
        part: Any = group
        for key in path:
            part = part[key]
        names |= dict.fromkeys(part)
    return list(names)

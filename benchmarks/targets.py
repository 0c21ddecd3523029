"""What the kernels are meant to reach on the CPU, and what the rows of a run show of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

Row = dict[str, Any]
Size = tuple[int, int]

PS, VMF = "PowerSpherical", "VonMisesFisher"
FORWARD, BOTH = " forward", " forward + backward"
TINY, IN_CACHE, LARGE = (8, 16), (512, 2048), (4096, 2048)
SMALL: tuple[Size, ...] = ((1024, 8), (512, 64))
SUMS: tuple[Size, ...] = ((4096, 64), (1024, 256), (512, 2048))
ROW = 15e-9  # seconds that the scalars of a row may take
RAW = "raw log_prob" + FORWARD
VALIDATED = "validated log_prob" + FORWARD


@dataclass(frozen=True)
class Target:
    work: str
    size: Size | None
    what: str  # is compared
    measured: float | None  # None where a row of it is missing
    at_least: float = 0.0
    at_most: float = math.inf
    floor_allows: float | None = None  # the ratio, if ours took no longer than its floor

    def reached_by(self, ratio: float | None) -> bool:
        return ratio is not None and self.at_least <= ratio <= self.at_most

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        if self.reached_by(self.measured):
            return "met"
        within = self.floor_allows is None or self.reached_by(self.floor_allows)
        return "**missed**" if within else "below the floor"


def floor_of(row: Row) -> float:
    """Seconds."""
    return float(sum(row["floor"].values()))


def slower_cells(rows: list[Row]) -> list[Row]:
    """The fastest other's row, for each cell of the speed map where it is right and before ours."""
    fastest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row.get("map") and row["peer"] != "ours" and "ratio" in row and "wrong" not in row:
            cell = (row["family"], row["work"], row["n"], row["d"])
            fastest[cell] = min(fastest.get(cell, row), row, key=lambda r: r["ratio"])
    return [row for row in fastest.values() if row["ratio"] < 1]


def targets(rows: list[Row]) -> Iterator[Target]:
    tables = [
        r
        for r in rows
        if "seconds" in r and not r.get("map") and (r["dtype"], r["device"]) == ("float32", "cpu")
    ]

    def find(family: str, work: str, size: Size, peer: str = "ours", memory: str = "") -> Row:
        wanted = (family, work, size, peer, work.startswith("raw"))
        return next(
            (
                r
                for r in tables
                if (r["family"], r["work"], (r["n"], r["d"]), r["peer"], "variant" in r) == wanted
                and memory in ("", r.get("memory"))
            ),
            {},
        )

    families = (PS, VMF)
    for family, passes in product(families, (FORWARD, BOTH)):
        work = "log_prob" + passes
        for memory in ("fresh", "reused"):
            row = find(family, work, LARGE, memory=memory)
            share = floor_of(row) / row["seconds"] if "floor" in row else None
            yield Target(f"{family} {work}, {memory} memory", LARGE, "floor / ours", share, 0.85)
    parts = [("rsample" + FORWARD, LARGE, "normals", 1.3, memory) for memory in ("fresh", "reused")]
    parts += [("rsample" + BOTH, size, "empty", 2, "") for size in SMALL]
    for family, (work, size, part, wanted, memory) in product(families, parts):
        row = find(family, work, size, memory=memory)
        least = row.get("floor", {}).get(part)
        over, allowed = (row["seconds"] / least, floor_of(row) / least) if least else (None, None)
        name = f"{family} {work}" + f", {memory} memory" * bool(memory)
        what = f"ours / {part}"
        yield Target(name, size, what, over, at_most=wanted, floor_allows=allowed)
    for passes, memory in product((FORWARD, BOTH), ("reused", "fresh")):
        for peer, wanted in (("power-spherical", 3), ("power-spherical, compiled", 1.5)):
            row, ours = (find(PS, "log_prob" + passes, IN_CACHE, p, memory) for p in (peer, "ours"))
            allowed = row["seconds"] / floor_of(ours) if row and "floor" in ours else None
            name, what = f"{PS} log_prob{passes}, {memory} memory", f"{peer} / ours"
            ratio = row.get("ratio")
            yield Target(name, IN_CACHE, what, ratio, wanted, floor_allows=allowed)
    for family, size in product(families, SUMS):
        row = find(family, RAW, size, "torch.dot")
        over = (row["ours_seconds"] - ROW * size[0]) / row["seconds"] if row else None
        what = "(ours - 15 ns a row) / torch.dot"
        yield Target(f"{family} {RAW}, 1 thread", size, what, over, at_most=1.5)
    for family, size in product(families, (TINY, SMALL[1])):
        ratio = find(family, VALIDATED, size, "torch Normal").get("ratio")
        yield Target(f"{family} {VALIDATED}", size, "torch Normal / ours", ratio, 1)
    for family in families:
        ratio = find(family, VALIDATED, LARGE, "without validation").get("ratio")
        over = 1 / ratio if ratio else None
        yield Target(f"{family} {VALIDATED}", LARGE, "ours / without validation", over, at_most=1.6)
    for family, quantity in product(families, ("log_prob", "rsample")):
        row, work = find(family, quantity + BOTH, LARGE, memory="fresh"), quantity + BOTH
        over = row["peak_memory"] / row["result_memory"] if row.get("peak_memory") else None
        what = "peak memory / value and gradients"
        yield Target(f"{family} {work}", LARGE, what, over, at_most=1.2)
    slower = Counter(row["family"] for row in slower_cells(rows))
    for family in dict.fromkeys(row["family"] for row in rows if row.get("map")):
        what = "cells of the speed map where another is faster"
        yield Target(f"{family}", None, what, slower[family], at_most=0)

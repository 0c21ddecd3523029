"""What the kernels are meant to reach on the CPU, and whether a file of results shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """`wanted` is the least ratio of the peer's time to the subject's, or with `at_most` the
    greatest of the subject's to the peer's. For the peers "read bandwidth" and "memory" see below.
    """

    family: str
    work: str
    size: tuple[int, int]
    peer: str
    wanted: float
    at_most: bool = False
    subject: str = "ours"


def _all() -> Iterator[Target]:
    forward, both = " forward", " forward + backward"
    large, ps, vmf = (4096, 2048), "PowerSpherical", "VonMisesFisher"
    yield Target(ps, "log_prob" + forward, large, "read bandwidth", 0.8)
    yield Target(ps, "log_prob" + forward, large, "power-spherical", 8)
    yield Target(ps, "log_prob" + both, large, "power-spherical", 6)
    yield Target(ps, "log_prob" + both, large, "power-spherical, compiled", 2)
    yield Target(ps, "rsample" + forward, large, "one torch op", 4)
    yield Target(ps, "rsample" + forward, large, "power-spherical", 15)
    yield Target(ps, "rsample" + both, large, "power-spherical", 20)
    for size in ((1024, 8), (512, 64)):
        yield Target(ps, "rsample" + both, size, "power-spherical", 10)
        yield Target(vmf, "rsample" + both, size, "s-vae style", 20)
    for size in ((1_000_000, 3), large):
        for quantity in ("log_prob", "log_prob of one law"):
            yield Target(vmf, quantity + both, size, "TFP on JAX", 3)
            yield Target(vmf, quantity + forward, size, "SciPy", 10)  # it has no backward
    yield Target(ps, "loss" + both, (512, 2048), "plain torch", 5)
    yield Target(ps, "loss" + both, (512, 2048), "power-spherical", 5)
    tiny = (8, 16)
    for subject in ("ours, op only", "ours"):
        yield Target(ps, "log_prob" + forward, tiny, "one torch op", 3, True, subject)
        yield Target(ps, "log_prob" + both, tiny, "composed torch ops", 1.3, True, subject)
    for family in (ps, vmf):
        for quantity in ("log_prob", "rsample"):
            # Inputs apart: a tensor of n x d more than outputs and gradients would be 1.5 or 2.
            yield Target(family, quantity + both, large, "memory", 1.2, True)


TARGETS = tuple(_all())


def named(row: Row) -> bool:
    """Whether the time of the row decides on a target."""
    return any(_matches(row, t, t.peer) or _matches(row, t, t.subject) for t in TARGETS)


def _matches(row: Row, target: Target, peer: str) -> bool:
    return (
        (row["family"], row["work"]) == (target.family, target.work)
        and (row["n"], row["d"]) == target.size
        and (row["peer"], row["dtype"], row["device"]) == (peer, "float32", "cpu")
        and not (row.get("variant") or row.get("map"))
    )


def measured(rows: list[Row], target: Target) -> tuple[float, int, bool] | None:
    """The ratio as in `wanted`, from how many rounds, and whether the peer's result was wrong.

    None where it was not measured.
    """

    def find(peer: str) -> Row | None:
        return next((r for r in rows if _matches(r, target, peer) and "skipped" not in r), None)

    subject = find(target.subject)
    if subject is None:
        return None
    if target.peer == "read bandwidth":
        if not subject.get("read_bandwidth"):
            return None
        rate = subject["bytes"] / subject["seconds"]
        return rate / subject["read_bandwidth"], subject["rounds"], False
    if target.peer == "memory":
        if subject.get("peak_memory") is None:
            return None
        return subject["peak_memory"] / subject["result_memory"], 1, False
    peer = find(target.peer)
    if peer is None:
        return None
    # Both are over ours, in alternation with it.
    ratio = peer["ratio"] / (1 if target.subject == "ours" else subject["ratio"])
    rounds = min(peer["rounds"], subject["rounds"])
    return 1 / ratio if target.at_most else ratio, rounds, "wrong" in peer


def met(target: Target, value: float) -> bool:
    return value <= target.wanted if target.at_most else value >= target.wanted

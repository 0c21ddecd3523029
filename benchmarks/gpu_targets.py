"""What is wanted of the CUDA kernels, and what gpu_timing.py measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]


def targets(roofline: Mapping[str, float], rows: list[Row]) -> list[Row]:
    """A target whose row, peer or roofline is missing has no measurement, and is neither met nor
    missed. Rows in bfloat16 have no target: they are listed beside those in float32."""

    def find(work: str, peer: str = "ours", dtype: str = "float32") -> Row | None:
        wanted = (work, peer, dtype)
        return next((r for r in rows if (r["work"], r["peer"], r["dtype"]) == wanted), None)

    def of_copy(work: str, dtype: str = "float32") -> float | None:
        row = find(work, dtype=dtype)
        known = row and roofline.get("copy")
        return row["bytes"] / row["seconds"] / roofline["copy"] if known else None

    def times_ours(work: str, peer: str) -> float | None:
        row = find(work, peer)
        return row and row["ratio"]

    forward, both = "log_prob forward", "log_prob forward + backward"
    sample, loss = "rsample forward", "loss forward + backward"
    found: list[tuple[str, float | None, float | None]] = [
        (f"{forward}: of copy bandwidth", of_copy(forward), 0.85),
        (f"{both}: of copy bandwidth", of_copy(both), 0.85),
        (f"{sample}: of copy bandwidth", of_copy(sample), 0.8),
        (f"{sample}: torch.randn takes so many times ours", times_ours(sample, "one torch op"), 1),
        ("rsample backward: of copy bandwidth", of_copy("rsample backward"), 0.8),
        (f"{loss}: of copy bandwidth", of_copy(loss), 0.8),
        (f"{loss}: plain torch over ours", times_ours(loss, "plain torch"), 5),
        (f"{loss}: compiled over ours", times_ours(loss, "plain torch, compiled"), 1.5),
    ]
    for work in (forward, both, sample, "rsample forward + backward", loss):
        for peer, wanted in (("power-spherical", 10), ("power-spherical, compiled", 1.5)):
            if not (work.startswith("rsample") and "compiled" in peer):
                found.append((f"{work}: {peer} over ours", times_ours(work, peer), wanted))
    for work in ("log_prob", "rsample", "loss"):
        row = find(f"{work} forward + backward, graph")
        speed = 10e-6 / row["seconds"] if row else None
        found.append((f"{work} (512, 64) in a graph: 10 us over ours", speed, 1))
    found += [
        (f"{work}, bfloat16: of copy bandwidth", of_copy(work, "bfloat16"), None)
        for work in (forward, both, sample, "rsample backward", loss)
    ]
    return [
        {
            "target": name,
            "wanted": wanted,
            "measured": value,
            "met": None if value is None or wanted is None else value >= wanted,
        }
        for name, value, wanted in found
    ]


def line(row: Row) -> str:
    measured = "not measured" if row["measured"] is None else f"{row['measured']:.2f}"
    verdict = {True: "met", False: "MISSED"}.get(row["met"], "-")
    wanted = "" if row["wanted"] is None else f", wanted {row['wanted']}"
    return f"{verdict:6} {row['target']}: {measured}{wanted}"

"""The results of benchmarks/results/*.json, for people.

python benchmarks/report.py     writes all tables beside each file of results, the pictures, and the
                                generated parts of README.md and benchmarks/README.md
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from pictures import draw_speed, draw_stability
from targets import floor_of, slower_cells, targets

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
OURS = "ours"
# The rows and columns of README.md.
MAIN_ROWS = (
    ("PowerSpherical", "log_prob forward", (512, 64)),
    ("PowerSpherical", "log_prob forward + backward", (512, 2048)),
    ("PowerSpherical", "log_prob forward + backward", (4096, 2048)),
    ("PowerSpherical", "rsample forward + backward", (512, 64)),
    ("PowerSpherical", "rsample forward + backward", (4096, 2048)),
    ("PowerSpherical", "loss forward + backward", (512, 2048)),
    ("VonMisesFisher", "log_prob forward", (512, 64)),
    ("VonMisesFisher", "log_prob forward + backward", (4096, 2048)),
    ("VonMisesFisher", "rsample forward + backward", (512, 64)),
)
MAIN_PEERS = (
    *("plain torch", "power-spherical", "power-spherical, compiled"),
    *("s-vae style", "SciPy", "TFP on JAX"),
)

Row = dict[str, Any]


# README.md


def summary(folder: Path = RESULTS) -> str:
    """A few sizes, for a user who compares."""
    parts = []
    for file in _results(folder):
        results = json.loads(file.read_text())
        rows = [r for r in results["rows"] if not (r.get("map") or r.get("variant"))]
        peers = [peer for peer in MAIN_PEERS if any(row["peer"] == peer for row in rows)]
        lines = [
            "| | n x d | ours | " + " | ".join(peers) + " |",
            "| --- | --- |" + " ---: |" * (1 + len(peers)),
        ]
        for family, work, size in MAIN_ROWS:
            wanted = (family, work, size, "float32")
            here = [
                r for r in rows if (r["family"], r["work"], (r["n"], r["d"]), r["dtype"]) == wanted
            ]
            cells: dict[str, Row] = {}
            for row in here:  # the first of a peer is in the memory that glibc chooses
                cells.setdefault(row["peer"], row)
            if OURS in cells:
                shown = [_size(cells[OURS]), _time(cells[OURS]["seconds"])]
                shown += [_cell(cells.get(peer), times=False) for peer in peers]
                lines.append(f"| {family} {work} | " + " | ".join(shown) + " |")
        if len(lines) > 2:
            sentence = "30x means that the other takes 30 times as long as ours. Measured on "
            parts += [sentence + _head(results), "\n".join(lines)]
    parts.append(
        "**Bold** is where ours is slower, and ~~struck~~ where the result of the other is wrong. "
        "All tables, and how they are measured: [benchmarks/README.md](benchmarks/README.md)."
    )
    return "\n\n".join(parts)


def _results(folder: Path) -> list[Path]:
    """One file for each machine."""
    return [file for file in sorted(folder.glob("*.json")) if file.stem != "stability"]


def _head(results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{results['machine']}; commit {results['commit']}, {results['date']}; {versions}; load "
        f"average {results['load_average']} before and {results['load_average_after']} after."
    )


# benchmarks/README.md


def details(folder: Path = RESULTS) -> str:
    """Targets, maps, and links to all tables."""
    parts = []
    for file in _results(folder):
        results = json.loads(file.read_text())
        parts += [f"### {_head(results)}", f"All tables: [{file.stem}.md](results/{file.stem}.md)."]
        parts.append("\n".join(_targets(results["rows"])))
        if any(row.get("map") for row in results["rows"]):
            parts.append(f"![Speed by n and d](results/{file.stem}-speed.png)")
        parts.append("\n".join(_slower_cells(results["rows"])))
    if (folder / "stability.json").exists():
        parts.append(_stability(json.loads((folder / "stability.json").read_text())))
    return "\n\n".join(part for part in parts if part)


def _targets(rows: list[Row]) -> Iterator[str]:
    found = list(targets(rows))
    if all(target.measured is None for target in found):
        return
    yield "| target | n x d | ratio | wanted | the floor allows | measured | |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- |"
    for target in found:
        wanted = f"at least {target.at_least:.3g}"
        if target.at_most < math.inf:
            wanted = f"at most {target.at_most:.3g}"
        allowed, measured = (
            "" if ratio is None else f"{ratio:.3g}"
            for ratio in (target.floor_allows, target.measured)
        )
        size = "{} x {}".format(*target.size) if target.size else ""
        cells = (target.work, size, target.what, wanted, allowed, measured, target.verdict)
        yield "| " + " | ".join(cells) + " |"


def _slower_cells(rows: list[Row]) -> Iterator[str]:
    slower = slower_cells(rows)
    if not slower:
        return
    yield "Cells of the speed map where another is faster:\n"
    yield "| | n x d | the fastest | its time / ours | floor / ours |"
    yield "| --- | --- | --- | ---: | ---: |"
    ours = {
        (r["family"], r["work"], r["n"], r["d"]): r
        for r in rows
        if r.get("map") and r["peer"] == OURS
    }
    for row in slower:
        cell = ours.get((row["family"], row["work"], row["n"], row["d"]))
        name = f"{row['family']} {row['work']}"
        yield f"| {name} | {_size(row)} | {row['peer']} | {_ratio(row['ratio'])} | {_share(cell)} |"


def _stability(maps: dict[str, Any]) -> str:
    """The counts of stability.json, beside its picture."""
    lines = [
        "![Where samples and densities are right](results/stability.png)",
        "",
        f"{maps['dtype']} arguments, {maps['samples']} samples and {maps['densities']} densities "
        f"for each of {len(maps['d']) * len(maps['kappa'])} pairs (d, kappa), d to "
        f"{max(maps['d'])}, kappa from {min(maps['kappa']):g} to {max(maps['kappa']):g}:",
        "",
        "| | | samples not of the law, or refused | densities off by more than 0.01 nat "
        "| not finite, or refused | worst finite density, nat |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {family} | {peer} | {s['samples_wrong']} | {s['densities_wrong']} | "
        f"{s['densities_not_finite']} | {s['worst_nats']:.2g} |"
        for family, peers in maps["families"].items()
        for peer, s in peers.items()
    ]
    return "\n".join(lines)


# All tables


def tables(results: dict[str, Any]) -> str:
    """One file of results as markdown."""
    parts = [
        f"# Benchmarks on {results['machine']}",
        _head(results),
        "All times are medians. A column of another package has its time, ours beside it from the "
        "same alternating rounds, and their quotient, in bold where ours is slower. The floor is "
        "the least time that the work can take (see benchmarks/README.md), and the brackets have "
        "its share of ours. Every result is compared with float64, and samples with the moments "
        "of their law, before it is timed. Wrong results are struck.",
        "\n".join(f"- {peer}: {note}" for peer, note in results["peers"].items() if note),
    ]
    kinds: dict[tuple[Any, ...], list[Row]] = {}
    for row in results["rows"]:
        if not row.get("map"):
            key = (row["family"], row["work"], row["dtype"], row["threads"])
            kinds.setdefault(key, []).append(row)
    parts += [
        f"## {family}, {work}, {dtype}, {threads} thread{'s' * (threads > 1)}\n\n"
        + "\n".join(_table(rows))
        for (family, work, dtype, threads), rows in kinds.items()
    ]
    memory = [row for row in results["rows"] if row.get("peak_memory") is not None]
    parts += ["\n".join(_memory(memory))] * bool(memory)
    notes = results["peers"].items()
    yardsticks = {peer for peer, note in notes if "yardstick" in note or peer.startswith(OURS)}
    rivals = [row for row in results["rows"] if row["peer"] not in yardsticks]
    parts.append("\n".join(_slower(rivals)))
    parts.append("\n".join(_wrong(results["rows"])))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: list[Row]) -> Iterator[str]:
    peers = _unique(row["peer"] for row in rows if row["peer"] != OURS)
    yield "| n x d | " + " | ".join((OURS, "floor", *peers)) + " |"
    yield "| --- |" + " ---: |" * (2 + len(peers))
    for size in _unique(map(_size, rows)):
        here = {row["peer"]: row for row in rows if _size(row) == size}
        if OURS not in here:
            continue
        ours = here[OURS]
        cells = [_time(ours["seconds"]), _floor(ours), *(_cell(here.get(p)) for p in peers)]
        yield f"| {size} | " + " | ".join(cells) + " |"


def _memory(rows: list[Row]) -> Iterator[str]:
    """In MiB: 16 of 16 means that nothing was allocated but what is returned."""
    yield "## Peak memory above the inputs\n"
    yield "MiB, of which value and gradients are the second number.\n"
    yield "| | n x d | peer | peak | returned |"
    yield "| --- | --- | --- | ---: | ---: |"
    for row in rows:
        peak, least = (f"{row[key] / (1 << 20):.0f}" for key in ("peak_memory", "result_memory"))
        name = f"{row['family']}, {row['work']}, {row['dtype']}, {row['threads']} thread(s)"
        yield f"| {name} | {_size(row)} | {row['peer']} | {peak} | {least} |"


def _slower(rows: list[Row]) -> Iterator[str]:
    slower = [r for r in rows if r.get("ratio", 1) < 0.95 and "wrong" not in r and not r.get("map")]
    if not slower:
        return
    yield "## Where ours takes longer, by more than 5 %\n"
    for peer in _unique(row["peer"] for row in slower):
        here = (
            f"{r['family']} {r['work']} {_size(r)} {r['dtype']} {_ratio(r['ratio'])}"
            for r in slower
            if r["peer"] == peer
        )
        yield f"- {peer}: " + "; ".join(here)


def _wrong(rows: list[Row]) -> Iterator[str]:
    wrong = [row for row in rows if "wrong" in row and not row.get("map")]
    if not wrong:
        return
    yield "## Wrong results\n"
    for r in wrong:
        what = f"{r['family']} {r['work']} {_size(r)} {r['dtype']}"
        yield f"- {r['peer']}, {what}: {r['wrong']}"


# Cells


def _cell(row: Row | None, times: bool = True) -> str:
    """Its time over ours, as measured beside it; in bold where we are the slower one."""
    if row is None:
        return ""
    if "skipped" in row:
        return "skipped"
    ratio = _ratio(row["ratio"])
    if row["ratio"] < 1:
        ratio = f"**{ratio}**"
    if times:
        ratio = f"{_time(row['seconds'])} / {_time(row['ours_seconds'])} = {ratio}"
    return f"~~{ratio}~~" if "wrong" in row else ratio


def _ratio(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{ratio:.0f}x"


def _floor(row: Row) -> str:
    return f"{_time(floor_of(row))} ({_share(row)})" if "floor" in row else ""


def _share(row: Row | None) -> str:
    return f"{floor_of(row) / row['seconds']:.0%}" if row and "floor" in row else ""


def _size(row: Row) -> str:
    n = {1_000_000: "1e6"}.get(row["n"], str(row["n"]))
    # Small results are always in reused memory.
    shown = row.get("memory", "") if row["n"] * row["d"] >= 1 << 20 else ""
    return f"{n} x {row['d']}" + f", {shown}" * bool(shown)


def _time(seconds: float) -> str:
    scale, unit = next(u for u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if seconds * u[0] >= 1)
    return f"{seconds * scale:.3g} {unit}"


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def pages() -> dict[Path, str]:
    """The pages that have a generated part, and what it is."""
    return {HERE.parent / "README.md": summary(), HERE / "README.md": details()}


def main() -> None:
    for file in _results(RESULTS):
        results = json.loads(file.read_text())
        file.with_suffix(".md").write_text(tables(results))
        draw_speed(results, file.with_name(f"{file.stem}-speed.png"))
    if (RESULTS / "stability.json").exists():
        draw_stability(
            json.loads((RESULTS / "stability.json").read_text()), RESULTS / "stability.png"
        )
    for readme, part in pages().items():
        before, rest = readme.read_text().split(BEGIN, 1)
        readme.write_text(f"{before}{BEGIN}\n{part}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()

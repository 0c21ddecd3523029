"""The results of benchmarks/results/*.json, for people.

python benchmarks/report.py     writes all tables beside each file of results, the pictures, and a
                                summary between the markers of README.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from pictures import draw_speed, draw_stability
from targets import TARGETS, Target, measured, met

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
OURS = "ours"
CACHES = 64 << 20  # bytes; less traffic than that says nothing about memory
# What the summary shows; a family that was not measured at one of these is shown without it.
MAIN_SIZES = ((512, 64), (1_000_000, 3), (4096, 2048))

Row = dict[str, Any]


# The summary


def summary(folder: Path = RESULTS) -> str:
    """What README.md shows: targets and main sizes of each machine, and the pictures."""
    parts = [
        "Written by `python benchmarks/report.py` from `benchmarks/results/*.json`. Medians; each "
        "result was checked before it was timed."
    ]
    for file in _results(folder):
        results = json.loads(file.read_text())
        parts += [_head(results), *_targets(results["rows"])]
        parts.append(
            "Time of the others over ours, in alternating rounds; **bold** where ours is slower, "
            "~~struck~~ where the result of the other is wrong. All sizes, dtypes and threads, "
            f"with times: [{file.stem}.md](benchmarks/results/{file.stem}.md)."
        )
        parts += _main_tables(results["rows"])
        parts.append(f"![Speed by n and d](benchmarks/results/{file.stem}-speed.png)")
    if (folder / "stability.json").exists():
        parts.append(_stability(json.loads((folder / "stability.json").read_text())))
    return "\n\n".join(parts)


def _results(folder: Path) -> list[Path]:
    """One file for each machine."""
    return [file for file in sorted(folder.glob("*.json")) if file.stem != "stability"]


def _head(results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    bandwidth = results["read_bandwidth"]
    return (
        f"**{results['machine']}**; commit {results['commit']}, {results['date']}; {versions}. "
        f"Load average {results['load_average']} before and {results['load_average_after']} after"
        + (f"; read bandwidth {bandwidth / 1e9:.1f} GB/s." if bandwidth else ".")
    )


def _targets(rows: list[Row]) -> Iterator[str]:
    if not any(measured(rows, target) for target in TARGETS):
        return
    lines = [
        "| target | n x d | ratio | wanted | measured | |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for target in TARGETS:
        found = measured(rows, target)
        value, verdict = "", "not measured"
        if found is not None:
            ratio, rounds, wrong = found
            value = _number(target, ratio)
            verdict = "met" if met(target, ratio) else "**missed**"
            verdict += "; its result is wrong" * wrong
            verdict += f"; {rounds} rounds" * (target.peer != "memory" and rounds < 20)
        cells = (
            f"{target.family} {target.work}",
            _size(target.size),
            _compared(target),
            f"{'at most ' * target.at_most}{_number(target, target.wanted)}",
            value,
            verdict,
        )
        lines.append("| " + " | ".join(cells) + " |")
    yield "\n".join(lines)


def _compared(target: Target) -> str:
    if target.peer == "read bandwidth":
        return "of the read bandwidth"
    if target.peer == "memory":
        return "peak memory / value and gradients"
    first, second = (target.peer, target.subject)[:: -1 if target.at_most else 1]
    return f"{first} / {second}"


def _number(target: Target, value: float) -> str:
    return f"{value:.0%}" if target.peer == "read bandwidth" else f"{value:.3g}x"


def _main_tables(rows: list[Row]) -> Iterator[str]:
    chosen = [
        row
        for row in rows
        if not (row.get("map") or row.get("variant"))
        and row["dtype"] == "float32"
        and ((row["n"], row["d"]) in MAIN_SIZES or row["work"].startswith("loss"))
    ]
    for family in _unique(row["family"] for row in chosen):
        here = [row for row in chosen if row["family"] == family]
        peers = _unique(row["peer"] for row in here if row["peer"] != OURS)
        lines = [
            f"| {family} | n x d | ours | of read | " + " | ".join(peers) + " |",
            "| --- | --- |" + " ---: |" * (2 + len(peers)),
        ]
        for work, size in _unique((row["work"], (row["n"], row["d"])) for row in here):
            cells = {r["peer"]: r for r in here if (r["work"], (r["n"], r["d"])) == (work, size)}
            if OURS in cells:
                ours = cells[OURS]
                shown = [_size(size), _time(ours["seconds"]), _share(ours)]
                shown += [_cell(cells.get(peer), times=False) for peer in peers]
                lines.append(f"| {work} | " + " | ".join(shown) + " |")
        yield "\n".join(lines)


def _stability(maps: dict[str, Any]) -> str:
    """The counts of stability.json, beside its picture."""
    lines = [
        "![Where samples and densities are right](benchmarks/results/stability.png)",
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
        _head(results),
        "Median time, and in brackets how many times ours, both from the same alternating rounds; "
        "bold where ours is slower. GB/s are the bytes that any implementation must move over our "
        "time; `of read` compares them with a sum over 128 MiB in the same run (small sizes stay "
        "in the caches, and have no entry). Every result is checked against float64, and samples "
        "against the moments of their law, before it is timed; what failed is struck.",
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
    return f"# {results['machine']}\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: list[Row]) -> Iterator[str]:
    peers = _unique(row["peer"] for row in rows if row["peer"] != OURS)
    yield "| n x d | " + " | ".join(("ours", "GB/s", "of read", *peers)) + " |"
    yield "| --- |" + " ---: |" * (3 + len(peers))
    for size in _unique((row["n"], row["d"]) for row in rows):
        here = {row["peer"]: row for row in rows if (row["n"], row["d"]) == size}
        if OURS not in here:
            continue
        ours = here[OURS]
        rate = f"{ours['bytes'] / ours['seconds'] / 1e9:.1f}"
        cells = [_time(ours["seconds"]), rate, _share(ours), *(_cell(here.get(p)) for p in peers)]
        yield f"| {_size(size)} | " + " | ".join(cells) + " |"


def _memory(rows: list[Row]) -> Iterator[str]:
    """In MiB: 16 of 16 means that nothing was allocated but what is returned."""
    yield "## Peak memory above the inputs\n"
    yield "MiB, of which value and gradients are the second number.\n"
    yield "| | n x d | peer | peak | returned |"
    yield "| --- | --- | --- | ---: | ---: |"
    for row in rows:
        peak, least = (f"{row[key] / (1 << 20):.0f}" for key in ("peak_memory", "result_memory"))
        name = f"{row['family']}, {row['work']}, {row['dtype']}, {row['threads']} thread(s)"
        yield f"| {name} | {_size((row['n'], row['d']))} | {row['peer']} | {peak} | {least} |"


def _slower(rows: list[Row]) -> Iterator[str]:
    slower = [r for r in rows if r.get("ratio", 1) < 0.95 and "wrong" not in r and not r.get("map")]
    if not slower:
        return
    yield "## Where ours takes longer, by more than 5 %\n"
    for peer in _unique(row["peer"] for row in slower):
        here = (
            f"{r['family']} {r['work']} {_size((r['n'], r['d']))} {r['dtype']} {_ratio(r['ratio'])}"
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
        what = f"{r['family']} {r['work']} {_size((r['n'], r['d']))} {r['dtype']}"
        yield f"- {r['peer']}, {what}: {r['wrong']}"


# Cells


def _cell(row: Row | None, times: bool = True) -> str:
    """Its time, and over ours as measured beside it; in bold where we are the slower one."""
    if row is None:
        return ""
    if "skipped" in row:
        return "skipped"
    ratio = _ratio(row["ratio"])
    if row["ratio"] < 1:
        ratio = f"**{ratio}**"
    if times:
        ratio = f"{_time(row['seconds'])} ({ratio})"
    return f"~~{ratio}~~" if "wrong" in row else ratio


def _ratio(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{ratio:.0f}x"


def _share(row: Row) -> str:
    """Of the read bandwidth."""
    read = row.get("read_bandwidth")
    return f"{row['bytes'] / row['seconds'] / read:.0%}" if read and row["bytes"] >= CACHES else ""


def _size(size: tuple[int, int]) -> str:
    n = {1_000_000: "1e6"}.get(size[0], str(size[0]))
    return f"{n} x {size[1]}"


def _time(seconds: float) -> str:
    scale, unit = next(u for u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if seconds * u[0] >= 1)
    return f"{seconds * scale:.3g} {unit}"


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def main() -> None:
    for file in _results(RESULTS):
        results = json.loads(file.read_text())
        file.with_suffix(".md").write_text(tables(results))
        draw_speed(results, file.with_name(f"{file.stem}-speed.png"))
    if (RESULTS / "stability.json").exists():
        draw_stability(
            json.loads((RESULTS / "stability.json").read_text()), RESULTS / "stability.png"
        )
    readme = README.read_text()
    before, rest = readme.split(BEGIN, 1)
    README.write_text(f"{before}{BEGIN}\n{summary()}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()

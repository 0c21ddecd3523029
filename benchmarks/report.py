"""Tables of benchmarks/results/*.json, for people.

python benchmarks/report.py                   print them
python benchmarks/report.py --write-readme    put them between the markers of README.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
OURS = "ours"
CACHES = 64 << 20  # bytes; less traffic than that says nothing about memory

Row = dict[str, Any]


def report(results: dict[str, Any]) -> str:
    """One file of results as markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    threads = sorted({row["threads"] for row in results["rows"]})
    bandwidth = results["read_bandwidth"]
    head = (
        f"**{results['machine']}**, {'/'.join(map(str, threads))} thread(s); commit "
        f"{results['commit']}, {results['date']}; {versions}. Load average "
        f"{results['load_average']} before and {results['load_average_after']} after"
    )
    if bandwidth:
        head += f"; read bandwidth {bandwidth / 1e9:.1f} GB/s"
    kinds: dict[tuple[str, str, str], list[Row]] = {}
    for row in results["rows"]:
        kinds.setdefault((row["family"], row["dtype"], row["work"]), []).append(row)
    tables = (
        f"{family}, {work}, {dtype}\n\n" + "\n".join(_table(rows))
        for (family, dtype, work), rows in kinds.items()
    )
    return "\n\n".join((head + ".", *tables))


def _table(rows: list[Row]) -> Iterator[str]:
    peers = _unique(row["peer"] for row in rows if row["peer"] != OURS)
    yield "| n x d | " + " | ".join(("ours", "GB/s", "of read", *peers)) + " |"
    yield "| --- |" + " ---: |" * (3 + len(peers))
    for size in _unique((row["n"], row["d"]) for row in rows):
        here = {row["peer"]: row for row in rows if (row["n"], row["d"]) == size}
        if OURS not in here:
            continue
        ours = here[OURS]
        rate, read = ours["bytes"] / ours["seconds"], ours.get("read_bandwidth")
        cells = [
            _time(ours["seconds"]),
            f"{rate / 1e9:.1f}",
            f"{rate / read:.0%}" if read and ours["bytes"] >= CACHES else "",
            *(_cell(here.get(peer)) for peer in peers),
        ]
        yield f"| {size[0]} x {size[1]} | " + " | ".join(cells) + " |"


def _cell(row: Row | None) -> str:
    """Its time, and over ours as measured beside it; in bold where we are the slower one."""
    if row is None:
        return ""
    if "skipped" in row:
        return "skipped"
    ratio = f"{row['ratio']:.2g}x" if row["ratio"] < 100 else f"{row['ratio']:.0f}x"
    if row["ratio"] < 1:
        ratio = f"**{ratio}**"
    return f"{_time(row['seconds'])} ({ratio})"


def _time(seconds: float) -> str:
    scale, unit = next(u for u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if seconds * u[0] >= 1)
    return f"{seconds * scale:.3g} {unit}"


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def stability(maps: dict[str, Any]) -> str:
    """The summary of stability.json, beside its picture."""
    lines = [
        "![Where samples and densities are right](benchmarks/results/stability.png)",
        "",
        f"{maps['dtype']}, {maps['samples']} samples and {maps['densities']} densities for each of "
        f"{len(maps['d']) * len(maps['kappa'])} pairs (d, kappa), d to {max(maps['d'])}, kappa "
        f"from {min(maps['kappa']):g} to {max(maps['kappa']):g}:",
        "",
        "| | samples that are not of the law | densities off by more than 0.01 nat "
        "| or not finite | worst finite density, nat |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {peer} | {s['samples_wrong']} | {s['densities_wrong']} | {s['densities_not_finite']} "
        f"| {s['worst_nats']:.2g} |"
        for peer, s in maps["summary"].items()
    ]
    return "\n".join(lines)


def markdown(folder: Path = RESULTS) -> str:
    """All results, after how to read them."""
    parts = [
        "Median time, and in brackets how many times ours, both from the same alternating rounds; "
        "bold where ours is slower. GB/s are the bytes that any implementation must move over our "
        "time; `of read` compares them with a sum over 128 MiB in the same run (small sizes stay "
        "in the caches, and have no entry). Every result is checked against float64 before it is "
        "timed, except for the yardstick `one torch op` (`add` beside a density, `randn` beside a "
        "sample).",
    ]
    for file in sorted(folder.glob("*.json")):
        results = json.loads(file.read_text())
        parts.append(report(results) if "rows" in results else stability(results))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write-readme", action="store_true")
    text = markdown()
    if not parser.parse_args().write_readme:
        print(text)
        return
    readme = README.read_text()
    if BEGIN not in readme or END not in readme:
        raise SystemExit(
            f"{README.name} has no lines {BEGIN} and {END}; without --write-readme "
            "the tables are printed"
        )
    before, rest = readme.split(BEGIN, 1)
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()

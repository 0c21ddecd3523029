"""pytest benchmarks [--save] [--smallest | --large] [--device cuda] [--dtype float64] [--threads 1]

Fills one row for each case and peer: checked, and timed in alternation with ours. Ours is timed in
alternation with the parts of its floor. At the end the rows are printed, or kept with --save.
--benchmark-json=FILE keeps pytest-benchmark's own record, which names the machine's host.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clock
import floor
import memory
import pytest
import report
import torch
from peer import Peer
from peers import OURS, PEERS
from table import MEMORY_BOUND
from work import Case, check, draws

SECONDS = 0.25  # of measuring for each row: at least 20 rounds, unless these take MOST seconds
MOST = 1.0  # and the row is not ours
MAP_SECONDS = 0.06  # for each cell of the speed map
COMPILE_SECONDS = 30

_rows: list[dict[str, Any]] = []
_head: dict[str, Any] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("powerspherical_ext benchmarks")
    group.addoption("--save", action="store_true", help="write FOLDER/<machine>.json")
    group.addoption("--folder", type=Path, default=report.RESULTS, help="benchmarks/results")
    group.addoption("--smallest", action="store_true", help="the smallest size alone")
    group.addoption("--large", action="store_true", help="with (65536, 2048); implied by cuda")
    group.addoption("--device", default="cpu", choices=["cpu", "cuda"])
    group.addoption("--dtype", default="float32", choices=["float32", "float64"])
    group.addoption("--threads", type=int, help="of torch; default: its own")


def pytest_configure(config: pytest.Config) -> None:
    if threads := config.getoption("--threads"):
        torch.set_num_threads(threads)


def pytest_sessionstart(session: pytest.Session) -> None:
    _head.update(clock.description(session.config.getoption("--device")))


def pytest_sessionfinish(session: pytest.Session) -> None:
    _head["load_average_after"] = clock.load_average()
    _head["peers"] = {peer.name: peer.note for peer in PEERS}
    if not (_rows and session.config.getoption("--save")):
        return
    folder = session.config.getoption("--folder")
    name = re.sub(r"[^a-z0-9]+", "-", _head["machine"].lower()).strip("-")
    folder.mkdir(exist_ok=True)
    rows = ",\n  ".join(json.dumps(row) for row in _rows)  # a row a line, for readable diffs
    head = json.dumps(_head, indent=1)[:-2]
    (folder / f"{name}.json").write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if _rows and not (config.getoption("--save") or config.getoption("benchmark_disable")):
        terminalreporter.write(report.tables({**_head, "rows": _rows}))


@pytest.fixture(autouse=True)
def _default_warnings() -> Iterator[None]:
    """A peer's deprecation warnings are not our errors."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Check a peer's result, then time it in alternation with ours."""
    threads, disabled = torch.get_num_threads(), request.config.getoption("benchmark_disable")

    def measured(case: Case, peer: Peer, in_map: bool = False) -> None:
        if case.threads:
            torch.set_num_threads(case.threads)
        row = {
            **case.described(),
            "peer": peer.name,
            "load": clock.load_average(),
        }
        choice = case.device == "cpu" and memory.glibc() is not None
        row |= {"memory": case.memory} if choice else {}
        row |= {"map": True} if in_map else {}
        row |= {"variant": True} if case.threads else {}
        run = peer.prepare(case)
        if peer.compiles:
            # One process: a compilation that is given up then stops, and disturbs no later row.
            torch._inductor.config.compile_threads = 1
            try:
                with clock.deadline(COMPILE_SECONDS):
                    run()
            except Exception as error:
                row["skipped"] = str(error).strip().splitlines()[0][:200]
                _rows.append(row)
                pytest.skip(row["skipped"])
        # The first calls are the warm-up.
        outputs = [peer.result(run()) for _ in range(1 if peer.part else draws(case))]
        if not peer.part:
            try:
                row["error"] = check(case, outputs)
            except AssertionError as error:
                if not peer.flaw:
                    raise
                row["wrong"] = str(error).splitlines()[0]
        row["result_memory"] = sum(v.numel() * v.itemsize for v in outputs[0])
        del outputs
        of_ours = peer == OURS
        runs = floor.parts(case) if of_ours else {OURS.name: OURS.prepare(case)}
        runs[peer.name] = run
        stopwatch = clock.Clock(case.device)

        def rounds(once: float) -> int:
            if in_map:
                return int(max(5, min(MAP_SECONDS / once, 100)))
            wanted = max(20, min(SECONDS / once, 300))
            return int(wanted if of_ours else max(3, min(wanted, MOST / once)))

        # Nothing large of another case is freed from here on. It would leave a gap to be reused.
        if choice:
            memory.use_memory(case.memory)
        benchmark.group = str(case)
        times = clock.alternating(runs, stopwatch, benchmark, rounds)

        of_peer = times[peer.name]
        quartiles = statistics.quantiles(of_peer, n=4) if len(of_peer) > 1 else of_peer * 3
        row["seconds"], row["iqr"] = quartiles[1], quartiles[2] - quartiles[0]
        row["ours_seconds"], row["best"] = statistics.median(times[OURS.name]), min(of_peer)
        row["ratio"] = row["seconds"] / row["ours_seconds"]
        row["rounds"] = len(of_peer)
        if of_ours:
            row["floor"] = floor.seconds(case, times)
        if case.bytes_moved >= MEMORY_BOUND and not (disabled or in_map):
            row["page_faults"] = memory.page_faults(run)
            if case.backward and case.memory == memory.FRESH:
                row["peak_memory"] = memory.peak_memory(run, case.device)
        benchmark.extra_info.update(row)
        _rows.append(row)

    yield measured
    torch.set_num_threads(threads)

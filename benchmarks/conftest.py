"""pytest benchmarks [--save] [--smallest | --large] [--device cuda] [--dtype float64] [--threads 1]

--benchmark-json=FILE keeps pytest-benchmark's own record, which names the machine's host.
Fills one row for each case and peer: checked, timed in alternation with ours, kept with --save.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clock
import pytest
import targets
import torch
from peers import OURS, PEERS, Peer
from work import Case, check, draws

RESULTS = Path(__file__).parent / "results"
SECONDS = 0.25  # of measuring for each row: at least 20 rounds, unless these take MOST seconds
MOST = 1.0  # and no target depends on the row
MAP_SECONDS = 0.06  # for each cell of the speed map
COMPILE_SECONDS = 30
MEMORY_BOUND = 8 << 20  # bytes; below, caches serve

_rows: list[dict[str, Any]] = []
_head: dict[str, Any] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("powerspherical_ext benchmarks")
    group.addoption("--save", action="store_true", help="write benchmarks/results/<machine>.json")
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
    if not (_rows and session.config.getoption("--save")):
        return
    _head["load_average_after"] = clock.load_average()
    _head["peers"] = {peer.name: peer.note for peer in PEERS}
    bandwidths = [r["read_bandwidth"] for r in _rows if r.get("read_bandwidth")]
    _head["read_bandwidth"] = statistics.median(bandwidths) if bandwidths else None
    name = re.sub(r"[^a-z0-9]+", "-", _head["machine"].lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    rows = ",\n  ".join(json.dumps(row) for row in _rows)  # a row a line, for readable diffs
    head = json.dumps(_head, indent=1)[:-2]
    (RESULTS / f"{name}.json").write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


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
            "work": case.work,
            "n": case.n,
            "d": case.d,
            "family": case.family,
            "dtype": case.dtype_name,
            "device": case.device,
            "threads": torch.get_num_threads(),
            "peer": peer.name,
            "load": clock.load_average(),
        }
        row |= {"map": True} if in_map else {}
        row |= {"variant": True} if case.threads else {}
        run, ours = peer.prepare(case), OURS.prepare(case)
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
        # The warm-up of both, which also gives the duration of a round.
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
        ours()
        stopwatch = clock.Clock(case.device)
        once = stopwatch(run) + stopwatch(ours)
        rounds = int(max(3, min(max(SECONDS / once, 20), MOST / once, 300)))
        if in_map:
            rounds = int(max(3, min(MAP_SECONDS / once, 100)))
        elif targets.named(row):
            rounds = max(rounds, 20)

        clock.return_free_memory()
        ours_times: list[float] = []
        times: list[float] = []
        benchmark.group = str(case)
        benchmark.pedantic(
            lambda: times.append(stopwatch(run)),
            setup=lambda: ours_times.append(stopwatch(ours)),
            rounds=rounds,
        )
        quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
        row["seconds"], row["iqr"] = quartiles[1], quartiles[2] - quartiles[0]
        row["ours_seconds"], row["best"] = statistics.median(ours_times), min(times)
        row["ratio"] = row["seconds"] / row["ours_seconds"]
        row["rounds"], row["bytes"] = len(times), case.bytes_moved
        if case.bytes_moved >= MEMORY_BOUND and not (disabled or in_map):
            row["read_bandwidth"] = clock.read_bandwidth(case.device)
            if case.backward:
                row["peak_memory"] = clock.peak_memory(run, case.device)
        benchmark.extra_info.update(row)
        _rows.append(row)

    yield measured
    torch.set_num_threads(threads)

"""python benchmarks/gpu_acceptance.py: build, test and time the CUDA kernels on the GPU of this
machine, and write benchmarks/results/<gpu>.json. One call of less than 8 minutes.

Exit status 1 if a test fails or a target is missed; the file says which. Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

Run = Callable[[], Any]
Row = dict[str, Any]

TEST_SECONDS = 240  # then the tests are stopped, which counts as a failure
COMPILE_SECONDS = 40  # for one function
LAST_COMPILATION = 330  # seconds after the start
ROUNDS = 25
REPLAYS = 50
SLEEP = 10_000_000  # cycles in which the CPU gets ahead of the GPU: more than any call here takes
LARGE, LOSS, SMALL = (65536, 2048), (8192, 2048), (512, 64)


# Build and tests


def build() -> None:
    code = "import sys; sys.path.insert(0, 'csrc'); import build_backend as b; b.build_library()"
    environ = {**os.environ, "POWERSPHERICAL_CUDA": "1"}
    if subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, check=False).returncode:
        sys.exit("gpu_acceptance: the kernels do not build")


def run_tests() -> Row:
    """{"passed": ..., "failed": ..., ...} of the tests in tests/cuda that need a GPU."""
    files = map(str, sorted((ROOT / "tests" / "cuda").glob("test_*_on_gpu.py")))
    pytest = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            pytest, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=TEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {TEST_SECONDS} s"}
    print(done.stdout[-6000:] + done.stderr[-2000:])
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    # 5: no test was collected. A run in which everything was skipped has tested nothing.
    if done.returncode or not counts.get("passed"):
        counts.setdefault("error", f"pytest ended with {done.returncode}")
    return counts


# What is timed


def runs_of(case: Any, compiled: bool) -> dict[str, Run]:
    """Ours and others, by their names in benchmarks/peers.py; `compiled`: also by torch.compile."""
    import peers

    by_name = {peer.name: peer for peer in peers.PEERS}
    runs = {"ours": peers.OURS.prepare(case)}
    for name in ("power-spherical", "plain torch"):
        peer = by_name[name]
        if peer.needs and not importlib.util.find_spec(peer.needs):
            continue
        if name == "power-spherical" or case.quantity == "loss":
            runs[name] = peer.prepare(case)
        if compiled and case.quantity != "rsample":
            runs[f"{name}, compiled"] = dataclasses.replace(peer, compiles=True).prepare(case)
    if case.quantity == "rsample" and not case.backward:
        loc = _inputs(case)[0][0]
        runs["one torch op"] = lambda: torch.randn_like(loc)
    return runs


def rsample_backward(case: Any) -> Run:
    """The backward kernel alone, of a dense upstream gradient."""
    from powerspherical_ext import ops

    (loc, kappa), upstream = _inputs(case)
    state = torch.tensor([1, 0], device=loc.device)
    sample = ops.rsample(loc, kappa, state, case.declared_family)
    op = torch.ops.powerspherical_ext.rsample_backward.default
    return lambda: op(upstream, sample, loc, kappa, case.declared_family.index, 6)


def _inputs(case: Any) -> Any:
    import work

    return work.inputs(case)


# Timing


class Timer:
    """Seconds on the GPU, from a cold L2. The CPU enqueues while the GPU sleeps, so that what it
    takes to launch is not in the time; for calls of many small kernels see `graphed`."""

    def __init__(self) -> None:
        self.flushed = torch.empty(256 << 20, dtype=torch.int8, device="cuda")

    def __call__(self, run: Run) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flushed.zero_()
        torch.cuda._sleep(SLEEP)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def alternating(self, runs: Mapping[str, Run]) -> dict[str, list[float]]:
        for run in runs.values():  # warm-up
            run()
            run()
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                times[name].append(self(run))
        return times


def graphed(run: Run) -> list[float]:
    """Seconds of a call within a CUDA graph, replayed back to back: from a warm cache."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        begin.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / REPLAYS)
    del output
    return times


def bandwidths(timer: Timer) -> dict[str, float]:
    """Bytes per second of copying, writing and reading 512 MiB: the rooflines."""
    source = torch.ones(128 << 20, device="cuda")
    target, size = torch.empty_like(source), source.numel() * source.itemsize
    runs = {
        "copy": lambda: target.copy_(source),
        "write": lambda: target.fill_(2.0),
        "read": lambda: torch.sum(source),
    }
    times = timer.alternating(runs)
    moved = {"copy": 2 * size, "write": size, "read": size}
    return {name: moved[name] / statistics.median(times[name]) for name in runs}


def rows_of(
    case: Any, times: Mapping[str, list[float]], moved: int, read: float, work: str = ""
) -> list[Row]:
    """As benchmarks/conftest.py writes them, for benchmarks/report.py."""
    ours = statistics.median(times["ours"])
    rows = []
    for peer, of_peer in times.items():
        quartiles = statistics.quantiles(of_peer, n=4)
        rows.append(
            {
                "work": work or case.work,
                "n": case.n,
                "d": case.d,
                "family": case.family,
                "dtype": str(case.dtype).removeprefix("torch."),
                "device": case.device,
                "threads": torch.get_num_threads(),
                "peer": peer,
                "seconds": quartiles[1],
                "iqr": quartiles[2] - quartiles[0],
                "best": min(of_peer),
                "ours_seconds": ours,
                "ratio": quartiles[1] / ours,
                "rounds": len(of_peer),
                "bytes": moved,
                "read_bandwidth": read,
            }
        )
    return rows


def without_failures(runs: dict[str, Run], seconds: int) -> dict[str, Run]:
    """Those that run. torch.compile compiles in the first call, and may fail or take too long."""
    import clock

    def runs_well(name: str) -> bool:
        try:
            with clock.deadline(seconds) if "compiled" in name else contextlib.nullcontext():
                runs[name]()
        except Exception as error:
            if name == "ours":
                raise
            print(f"left out: {name}: {str(error).strip().splitlines()[0][:200]}")
            return False
        return True

    return {name: run for name, run in runs.items() if runs_well(name)}


def measure(start: float) -> tuple[dict[str, float], list[Row]]:
    from work import Case

    timer = Timer()
    roofline, rows = bandwidths(timer), []

    def add(case: Any, runs: dict[str, Run], work: str = "", moved: int = 0) -> None:
        times = timer.alternating(without_failures(runs, COMPILE_SECONDS))
        rows.extend(rows_of(case, times, moved or case.bytes_moved, roofline["read"], work))
        print(_line(rows[-len(times)]), flush=True)

    for quantity, backward, (n, d) in [
        ("log_prob", False, LARGE),
        ("log_prob", True, LARGE),
        ("rsample", False, LARGE),
        ("rsample", True, LARGE),
        ("loss", True, LOSS),
    ]:
        case = Case(quantity, backward, n, d, device="cuda")
        add(case, runs_of(case, time.monotonic() - start < LAST_COMPILATION))
    case = Case("rsample", True, *LARGE, device="cuda")
    four_tensors = 4 * case.n * case.d * case.dtype.itemsize  # gradients, sample and loc
    add(case, {"ours": rsample_backward(case)}, "rsample backward", four_tensors)
    for quantity in ("log_prob", "rsample", "loss"):
        case = Case(quantity, True, *SMALL, device="cuda")
        times = {"ours": graphed(runs_of(case, False)["ours"])}
        rows += rows_of(case, times, case.bytes_moved, roofline["read"], f"{case.work}, graph")
        print(_line(rows[-1]), flush=True)
    return roofline, rows


def _line(row: Row) -> str:
    rate = row["bytes"] / row["seconds"]
    return (
        f"{row['work']} ({row['n']}, {row['d']}): {row['seconds'] * 1e6:.1f} us, "
        f"{rate / 1e9:.0f} GB/s"
    )


# Targets


def targets(roofline: Mapping[str, float], rows: list[Row]) -> list[Row]:
    """What is wanted and what was measured. A ratio to a peer that is not installed has none."""

    def find(work: str, peer: str = "ours") -> Row | None:
        return next((r for r in rows if r["work"] == work and r["peer"] == peer), None)

    def of_roofline(work: str, kind: str = "copy", share: float = 1.0) -> float | None:
        row = find(work)
        return row and row["bytes"] * share / row["seconds"] / roofline[kind]

    def times_ours(work: str, peer: str) -> float | None:
        row = find(work, peer)
        return row and row["ratio"]

    forward, both = "log_prob forward", "log_prob forward + backward"
    sample, loss = "rsample forward", "loss forward + backward"
    found = [
        (f"{forward}: of copy bandwidth", of_roofline(forward), 0.85),
        (f"{both}: of copy bandwidth", of_roofline(both), 0.85),
        # The sample alone is half of what must be moved.
        (f"{sample}: of write bandwidth", of_roofline(sample, "write", 0.5), 0.5),
        (f"{sample}: torch.randn takes so many times ours", times_ours(sample, "one torch op"), 1),
        ("rsample backward: of copy bandwidth", of_roofline("rsample backward"), 0.8),
        (f"{loss}: of copy bandwidth", of_roofline(loss), 0.8),
        (f"{loss}: plain torch over ours", times_ours(loss, "plain torch"), 5),
        (f"{loss}: compiled over ours", times_ours(loss, "plain torch, compiled"), 1.5),
    ]
    for work in (forward, both, sample, "rsample forward + backward", loss):
        for peer, wanted in (("power-spherical", 10), ("power-spherical, compiled", 1.5)):
            if not (work.startswith("rsample") and "compiled" in peer):
                found.append((f"{work}: {peer} over ours", times_ours(work, peer), wanted))
    for work in ("log_prob", "rsample", "loss"):
        row = find(f"{work} forward + backward, graph")
        speed = row and 10e-6 / row["seconds"]
        found.append((f"{work} (512, 64) in a graph: 10 us over ours", speed, 1))
    return [
        {"target": name, "wanted": wanted, "measured": value, "met": value and value >= wanted}
        for name, value, wanted in found
    ]


def main() -> int:
    start = time.monotonic()
    if not torch.cuda.is_available():
        sys.exit("gpu_acceptance: no GPU here; nothing was built, tested or timed")
    build()
    tests = run_tests()

    import clock  # these import the library that was just built

    from powerspherical_ext import _library

    if not _library.CUDA_KERNELS:
        sys.exit(f"gpu_acceptance: no CUDA kernels: {_library.why_no_kernels('cuda')}")
    head = clock.description("cuda")
    roofline, rows = measure(start)
    reached = targets(roofline, rows)
    results = {
        **head,
        "load_average_after": clock.load_average(),
        "read_bandwidth": roofline["read"],
        "copy_bandwidth": roofline["copy"],
        "write_bandwidth": roofline["write"],
        "cuda": torch.version.cuda,
        "tests": tests,
        "targets": reached,
        "seconds": round(time.monotonic() - start, 1),
        "rows": rows,
    }
    name = re.sub(r"[^a-z0-9]+", "-", head["machine"].lower()).strip("-")
    file = HERE / "results" / f"{name}.json"
    file.write_text(json.dumps(results, indent=1) + "\n")
    for row in reached:
        measured = "not measured" if row["measured"] is None else f"{row['measured']:.2f}"
        verdict = {True: "met", False: "MISSED"}.get(row["met"], "-")
        print(f"{verdict:6} {row['target']}: {measured}, wanted {row['wanted']}")
    print(f"tests: {tests}; {results['seconds']} s; written to {file.relative_to(ROOT)}")
    good = "error" not in tests and "failed" not in tests
    return 0 if good and all(row["met"] is not False for row in reached) else 1


if __name__ == "__main__":
    sys.exit(main())

"""python benchmarks/gpu_timing.py FILE [--rehearsal]: times the CUDA kernels, step by step, into a
results file. gpu_acceptance.py calls it.

The file is written after every step. Steps that it already has, with rows or with an error, are
left out: so the caller starts this again after a crash. The file's "running" is the step under way.
A step that fails takes no other with it; but if it leaves the GPU unusable to this process, the
exit status is 3, and the caller starts a new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import clock
import peers
import torch
import work
from gpu_results import Results
from work import Case

from powerspherical_ext import _library, ops

Run = Callable[[], Any]
Row = dict[str, Any]

COMPILE_SECONDS = 40  # for one function
ROUNDS = 25
REPLAYS = 50
SLEEP = 10_000_000  # cycles in which the CPU gets ahead of the GPU: more than any call here takes
FLUSHED = 256 << 20  # bytes that are written to empty the L2
COPIED = 128 << 20  # floats, of which a bandwidth is measured
REHEARSED = 1 << 16  # of both, in a rehearsal
LARGE, LOSS, SMALL = (65536, 2048), (8192, 2048), (512, 64)


# What is timed


def runs_of(case: Case) -> dict[str, Run]:
    """Ours and others, by their names in benchmarks/peers.py."""
    by_name = {peer.name: peer for peer in peers.PEERS}
    runs = {"ours": peers.OURS.prepare(case)}
    for name in ("power-spherical", "plain torch"):
        peer = by_name[name]
        if peer.needs and not importlib.util.find_spec(peer.needs):
            continue
        if case.dtype == torch.float32 and (name == "power-spherical" or case.quantity == "loss"):
            runs[name] = peer.prepare(case)
    if case.quantity == "rsample" and not case.backward:
        loc = work.inputs(case)[0][0]
        runs["one torch op"] = lambda: torch.randn_like(loc)
    return runs


def compiled_runs_of(case: Case, name: str) -> dict[str, Run]:
    """Ours, and a peer by torch.compile."""
    peer = next(peer for peer in peers.PEERS if peer.name == name)
    runs = {"ours": peers.OURS.prepare(case)}
    if not peer.needs or importlib.util.find_spec(peer.needs):
        with _left_out(f"{name}, compiled"):
            runs[f"{name}, compiled"] = dataclasses.replace(peer, compiles=True).prepare(case)
    return runs


def rsample_backward(case: Case) -> Run:
    """The backward kernel alone, of a dense upstream gradient."""
    (loc, kappa), upstream = work.inputs(case)
    kappa = kappa.to(ops.common_dtype(loc))
    state = torch.tensor([1, 0], device=loc.device)
    sample = ops.rsample(loc, kappa, state, case.declared_family)
    op = torch.ops.powerspherical_ext.rsample_backward.default
    return lambda: op(upstream, sample, loc, kappa, case.declared_family.index, 6)


# Timing


class Timer:
    """Seconds on the GPU, from a cold L2. The CPU enqueues while the GPU sleeps, so that what it
    takes to launch is not in the time; for calls of many small kernels see `graphed`."""

    def __init__(self, flushed: int = FLUSHED) -> None:
        self.flushed = torch.empty(flushed, dtype=torch.int8, device="cuda")

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


def bandwidths(timer: Timer, floats: int) -> dict[str, float]:
    """Bytes per second of copying, writing and reading so many floats: the rooflines."""
    source = torch.ones(floats, device="cuda")
    target, size = torch.empty_like(source), source.numel() * source.itemsize
    runs = {
        "copy": lambda: target.copy_(source),
        "write": lambda: target.fill_(2.0),
        "read": lambda: torch.sum(source),
    }
    times = timer.alternating(runs)
    moved = {"copy": 2 * size, "write": size, "read": size}
    return {name: moved[name] / statistics.median(times[name]) for name in runs}


@contextlib.contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Lets a peer fail, but not ours."""
    try:
        yield
    except Exception as error:
        if name == "ours":
            raise
        print(f"left out: {name}: {(str(error).strip() or repr(error)).splitlines()[0][:200]}")


def without_failures(runs: Mapping[str, Run], seconds: int) -> dict[str, Run]:
    """Those that run. torch.compile compiles in the first call, and may fail or take too long."""
    good: dict[str, Run] = {}
    for name, run in runs.items():
        with (
            _left_out(name),
            clock.deadline(seconds) if "compiled" in name else contextlib.nullcontext(),
        ):
            run()
            good[name] = run
    return good


def rows_of(
    case: Case, times: Mapping[str, list[float]], moved: int, read: float | None, work: str = ""
) -> list[Row]:
    """As benchmarks/conftest.py writes them, for benchmarks/report.py."""
    ours = statistics.median(times["ours"])
    rows = []
    for peer, of_peer in times.items():
        quartiles = statistics.quantiles(of_peer, n=4)
        rows.append(
            {
                **case.described(),
                **({"work": work} if work else {}),
                "peer": peer,
                "seconds": quartiles[1],
                "iqr": quartiles[2] - quartiles[0],
                "best": min(of_peer),
                "ours_seconds": ours,
                "ratio": quartiles[1] / ours,
                "rounds": len(of_peer),
                "bytes": moved,
                **({"floor": {"read": moved / read}} if read else {}),
            }
        )
    return rows


# Steps


class Steps:
    """Each method times something, and returns its rows."""

    def __init__(self, results: Results, rehearsal: bool) -> None:
        self.results, self.small = results, rehearsal
        self.timer = Timer(REHEARSED if rehearsal else FLUSHED)

    def all(self) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        """What is wanted most comes first, and what compiles last."""
        large, loss, small = (LARGE, LOSS, SMALL) if not self.small else [(64, 8)] * 3
        whole = [("log_prob", False), ("log_prob", True), ("rsample", False), ("rsample", True)]
        sizes = [*((*what, large) for what in whole), ("loss", True, loss)]
        yield "bandwidths", self.rooflines
        for dtype in (torch.float32, torch.bfloat16):
            cases = [Case(q, b, *size, dtype=dtype, device="cuda") for q, b, size in sizes]
            for case in cases:
                yield f"{case}", lambda case=case: self.alternating(case)
            case = cases[3]
            yield f"{case}-backward alone", lambda case=case: self.backward_alone(case)
        for quantity in ("log_prob", "rsample", "loss"):
            case = Case(quantity, True, *small, device="cuda")
            yield f"{case}-graph", lambda case=case: self.in_graph(case)
        for quantity, backward, size in [sizes[4], sizes[1], sizes[0]]:
            case = Case(quantity, backward, *size, device="cuda")
            for peer in ("plain torch", "power-spherical"):
                yield f"{case}-{peer}-compiled", lambda c=case, p=peer: self.compiled(c, p)

    @property
    def read(self) -> float | None:
        return self.results.data.get("read_bandwidth")

    def rooflines(self) -> list[Row]:
        found = bandwidths(self.timer, REHEARSED if self.small else COPIED)
        self.results.data.update({f"{kind}_bandwidth": found[kind] for kind in found})
        return []

    def alternating(self, case: Case) -> list[Row]:
        times = self.timer.alternating(without_failures(runs_of(case), COMPILE_SECONDS))
        return rows_of(case, times, case.bytes_moved, self.read)

    def backward_alone(self, case: Case) -> list[Row]:
        four_tensors = 4 * case.n * case.d * case.dtype.itemsize  # gradients, sample and loc
        times = self.timer.alternating({"ours": rsample_backward(case)})
        return rows_of(case, times, four_tensors, self.read, "rsample backward")

    def in_graph(self, case: Case) -> list[Row]:
        times = {"ours": graphed(peers.OURS.prepare(case))}
        return rows_of(case, times, case.bytes_moved, self.read, f"{case.work}, graph")

    def compiled(self, case: Case, peer: str) -> list[Row]:
        runs = without_failures(compiled_runs_of(case, peer), COMPILE_SECONDS)
        rows = rows_of(case, self.timer.alternating(runs), case.bytes_moved, self.read)
        return rows[1:]  # ours has a row already


def run_step(results: Results, name: str, step: Callable[[], list[Row]]) -> None:
    """Its rows, or its error, are in the file when this returns."""
    data = results.data
    results.save(running=name)
    try:
        data["rows"] += step()
        data["done"].append(name)
    except Exception as error:
        data["errors"][name] = f"{type(error).__name__}: {error}"[:2000]
        print(f"{name}: {data['errors'][name]}", flush=True)
    results.save(running=None)


def line(row: Row) -> str:
    rate = row["bytes"] / row["seconds"] / 1e9
    name = f"{row['work']} ({row['n']}, {row['d']}) {row['dtype']}, {row['peer']}"
    return f"{name}: {row['seconds'] * 1e6:.1f} us, {rate:.0f} GB/s"


def main() -> int:
    results, rehearsal = Results(Path(sys.argv[1])), "--rehearsal" in sys.argv
    if not (_library.CUDA_KERNELS or rehearsal):
        sys.exit(f"gpu_timing: no CUDA kernels: {_library.why_no_kernels('cuda')}")
    for key, empty in (("rows", []), ("done", []), ("errors", {})):
        results.data.setdefault(key, empty)
    data = results.data
    for name, step in Steps(results, rehearsal).all():
        if name in data["done"] or name in data["errors"]:
            continue
        before = len(data["rows"])
        run_step(results, name, step)
        print("\n".join(map(line, data["rows"][before:])) or name, flush=True)
        if name in data["errors"]:
            try:
                torch.cuda.synchronize()
            except Exception as error:
                print(f"the GPU is lost to this process: {error}", flush=True)
                return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())

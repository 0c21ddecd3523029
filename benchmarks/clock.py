"""Time, and what machine this is (its model, never its name)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], Any]
Times = dict[str, list[float]]

SHORT = 4e-3  # seconds; a turn of a call that takes less consists of several calls

VERSIONS = (
    *("torch", "numpy", "scipy", "power-spherical"),
    *("jax", "tensorflow-probability", "tfp-nightly", "numpyro"),
)


class Clock:
    """Seconds that one call takes. On CUDA (written, not run on a GPU) by events, from a cold L2.

    On the CPU caches are as the previous call, of another peer, left them.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            self._flush = torch.empty(256 << 20, dtype=torch.int8, device=device)

    def __call__(self, run: Run, calls: int = 1) -> float:
        """On the CPU the mean of so many calls in a row."""
        if self.device != "cuda":
            start = time.perf_counter()
            for _ in range(calls):
                run()
            return (time.perf_counter() - start) / calls
        self._flush.zero_()
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def alternating(
    runs: Mapping[str, Run], clock: Clock, benchmark: Any, rounds: Callable[[float], int]
) -> Times:
    """The times of each, in turn in every round. `rounds` tells how many, from the time of one.

    A short call is repeated within a round, so that the caches are its own. pytest-benchmark sees
    the last.
    """
    times: Times = {name: [] for name in runs}
    for run in runs.values():
        run()
    calls = {name: max(1, int(SHORT / clock(run))) for name, run in runs.items()}

    def record(*names: str) -> None:
        for name in names:
            times[name].append(clock(runs[name], calls[name]))

    start = time.perf_counter()
    record(*runs)
    once = time.perf_counter() - start
    *others, last = runs
    times = {name: [] for name in runs}
    benchmark.pedantic(lambda: record(last), setup=lambda: record(*others), rounds=rounds(once))
    return times


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raises TimeoutError within, in the main thread, where the system has SIGALRM."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def interrupt(*_: object) -> None:
        raise TimeoutError(f"not compiled in {seconds} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def machine(device: str) -> str:
    """'AMD EPYC, 2 cores', or the name of the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    model, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists() and (match := re.search(r"model name\s*: (.*)", cpuinfo.read_text())):
        model = match[1].strip()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model}, {os.cpu_count()} cores, {capability}"


def load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit() -> str:
    """HEAD, with a + where what is measured has changes that are not committed."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # there is no git
            return ""
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "powerspherical_ext", "csrc", "benchmarks/*.py")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + "+" * bool(changed)


def description(device: str) -> dict[str, Any]:
    """The head of a results file."""
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "machine": machine(device),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions,
        "load_average": load_average(),
    }

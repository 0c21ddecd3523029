"""Time, read bandwidth, and what machine this is (its model, never its name)."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import platform
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], Any]

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

    def __call__(self, run: Run) -> float:
        if self.device != "cuda":
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        self._flush.zero_()
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def read_bandwidth(device: str, rounds: int = 9) -> float:
    """Bytes per second of the fastest of torch.sum and torch.max over 128 MiB of float32."""
    clock, data = Clock(device), torch.ones(32 << 20, device=device)
    times = {f: [clock(lambda f=f: f(data)) for _ in range(rounds)] for f in (torch.sum, torch.max)}
    seconds = min(statistics.median(t) for t in times.values())
    return data.numel() * data.itemsize / seconds


def return_free_memory() -> None:
    """Gives what glibc keeps of freed memory back to the system, so that large results are made in
    fresh memory, as in a new process, whatever ran before."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(run: Run, device: str) -> int | None:
    """Bytes by which memory in use rises during a call, with its results: of the whole process on
    the CPU, of torch's allocator on CUDA. None where the system does not tell.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    return_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak, VmHWM, to what is in use
        before = _status("VmRSS")
        output = run()
        peak = _status("VmHWM")
    except OSError:
        return None
    del output
    return peak - before


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


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

"""What any example takes, and on which machine."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from powerspherical_ext import __version__

Calls = Mapping[tuple[str, str], Callable[[], float]]
Times = Mapping[tuple[str, str], Sequence[float]]


def in_turns(calls: Calls, device: torch.device, rounds: int = 100, warm_up: int = 5) -> Times:
    """Milliseconds of each call in each round.

    A round makes every call once, in an order of its own, so that other programs slow all of them
    alike. On a CPU the milliseconds are the process's own. On a GPU they are the host's, which
    waits for the number that each call returns.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    shuffle = random.Random(0).shuffle
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for done in range(warm_up + rounds):
        order = list(calls)
        shuffle(order)
        for key in order:
            begin = clock()
            calls[key]()
            if done >= warm_up:
                times[key].append(1e3 * (clock() - begin))
    return times


def machine(device: str) -> dict[str, object]:
    """What a result was measured on, and by which versions."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.is_file() else []
        models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        name = f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"
    return {
        "machine": name,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "versions": {"torch": torch.__version__, "powerspherical_ext": __version__},
    }

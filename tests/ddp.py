"""Runs a function in two processes of a torch.distributed group, on this machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

WORLD_SIZE = 2
needs_gloo = pytest.mark.skipif(
    sys.platform == "win32", reason="gloo on localhost is for Linux and macOS"
)


def in_two_processes(function: Callable[[int], Any]) -> list[Any]:
    """function(rank) of each rank, within an initialised group.

    The function is one of a module, so that a new process finds it by name, and returns numbers,
    lists and strings: a tensor in a queue dies with the process that put it there.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = [(function, rank, port, queue) for rank in range(WORLD_SIZE)]
    processes = [context.Process(target=_run, args=each) for each in arguments]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return [results[rank] for rank in range(WORLD_SIZE)]


def _run(function: Callable[[int], Any], rank: int, port: int, queue: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORLD_SIZE)
    try:
        queue.put((rank, function(rank)))
    finally:
        torch.distributed.destroy_process_group()

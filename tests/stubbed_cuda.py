"""Stands in for a GPU: CPU tensors, and a clock by which every timed call takes a millisecond.

For the rehearsal of benchmarks/gpu_acceptance.py where there is no GPU. Nothing is compiled.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NAME = "Stub of a GPU"


class OnCpu(TorchFunctionMode):
    """Tensors asked for on CUDA are made on the CPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return 1.0  # milliseconds


class Stream:
    def wait_stream(self, other: Any) -> None:
        pass


class CUDAGraph:
    def replay(self) -> None:
        pass


_Generator = torch.Generator


class Generator:
    def __new__(cls, device: Any = "cpu") -> Any:
        return _Generator("cpu")


def _compile(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nothing is compiled here")


def install() -> None:
    """For the rest of the process."""
    cuda: Any = torch.cuda
    cuda.is_available = lambda: True
    cuda.get_device_name = lambda *_: NAME
    cuda.get_device_capability = lambda *_: (9, 0)
    cuda.synchronize = lambda *_: None
    cuda.current_stream = lambda *_: Stream()
    cuda.stream = cuda.graph = lambda _: contextlib.nullcontext()
    cuda._sleep = lambda _: None
    cuda.Event, cuda.Stream, cuda.CUDAGraph = Event, Stream, CUDAGraph
    torch.Generator, torch.compile = Generator, _compile  # type: ignore[misc,assignment]
    OnCpu().__enter__()

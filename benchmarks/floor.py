"""The least time that a case can take, from parts that are timed in the same rounds as ours.

- empty: a torch.autograd.Function that allocates the value and the gradients, without computing.
- read, write: the bytes that any implementation must read, and write, at the bandwidths of one
  torch operation on as many bytes. What the operation takes for one element is subtracted. In
  fresh memory writing includes the page faults, of huge pages where these take less time.
- normals: of a sample, the random words and their transform, without any memory.

The floor is their sum. One core does not read while it writes or waits for a page fault:
torch.Tensor.copy_ takes 0.9 to 1.15 times the sum of reading and writing, in cache and from memory.
"""

from __future__ import annotations

import ctypes
import functools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import memory
import torch
from peer import Run, run_torch
from torch import Tensor
from work import Case, inputs

ROOT = Path(__file__).parents[1]
SAMPLE = "rsample"


class _Empty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: tuple[int, ...], *arguments: Tensor) -> Tensor:
        ctx.save_for_backward(*arguments)
        return arguments[0].new_empty(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return None, *(torch.empty_like(v) if needs else None for v, needs in needed)


def parts(case: Case) -> dict[str, Run]:
    """What is timed for `seconds`."""
    shape = {"loss": (), SAMPLE: (case.n, case.d)}.get(case.quantity, (case.n,))
    arguments, upstream = inputs(case)
    upstream = upstream.to(case.dtype)
    ones = torch.ones(max(case.reads) // 4, device=case.device)
    others = ones.clone()  # what one operation has read is not in the cache for the next
    one, written = ones[:1], max(case.writes) // 4

    def write(size: int) -> Tensor:
        return torch.empty(size, device=case.device).fill_(1.0)

    def write_huge_pages() -> Tensor:
        result = torch.empty(written, device=case.device)
        memory.ask_for_huge_pages(result)
        return result.fill_(1.0)

    runs = {
        "empty": run_torch(lambda *a: _Empty.apply(shape, *a), arguments, upstream, case),
        "sum": lambda: torch.sum(ones),
        "max": lambda: torch.max(others),
        "sum of one": lambda: torch.sum(one),
        "write": lambda: write(written),
        "write huge pages": write_huge_pages,
        "write one": lambda: write(1),
    }
    counts = case.quantity == SAMPLE and case.device == "cpu" and case.dtype != torch.float64
    if counts and (fill := normals()):
        runs["normals"] = lambda: fill(case.n, case.d)
    return runs


def seconds(case: Case, times: Mapping[str, list[float]]) -> dict[str, float]:
    """The parts of the floor, from the times of `parts`."""
    of = {name: statistics.median(values) for name, values in times.items()}
    read = max(min(of["sum"], of["max"]) - of["sum of one"], 0)
    write = max(min(of["write"], of["write huge pages"]) - of["write one"], 0)
    found = {
        "empty": of["empty"],
        "read": read * sum(case.reads) / max(case.reads),
        "write": write * sum(case.writes) / max(case.writes),
    }
    return found | ({"normals": of["normals"]} if "normals" in of else {})


@functools.cache
def normals() -> Callable[[int, int], None] | None:
    """normals.cpp, compiled as the library is. None without a compiler."""
    sys.path.append(str(ROOT / "csrc"))
    import build_backend

    compiler = build_backend.find_cxx()
    if compiler is None:
        return None
    # The function that shares work out over the threads of torch becomes visible.
    libtorch = next(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*"))
    ctypes.CDLL(str(libtorch), mode=ctypes.RTLD_GLOBAL)
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/normals.so"
        command = [*build_backend.cxx_compiler(compiler), f"-I{ROOT / 'csrc'}", "-shared"]
        undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        source = str(Path(__file__).with_name("normals.cpp"))
        subprocess.run([*command, *undefined, source, "-o", library], check=True)
        fill = ctypes.CDLL(library).fill_with_normals
    fill.argtypes, fill.restype = [ctypes.c_int64] * 2, None
    return fill

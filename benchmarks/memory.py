"""Where results are put: in memory that is fresh from the system, or in reused memory.

A page of fresh memory costs a page fault when it is first written. glibc takes results of 32 MiB
and more fresh from the system by itself, and reuses memory for smaller ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

GLIBC_MAPS = 32 << 20  # bytes; the largest value that glibc itself gives to its M_MMAP_THRESHOLD
FRESH, REUSED = "fresh", "reused"

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # glibc's names of them begin with M_
_LEAST = 128 << 10  # bytes, from which on a result counts
_HEAP = 512 << 20  # bytes that reused results have to begin with
_blocks: list[tuple[int, int]] = []  # addresses and sizes of those that fill the gaps
_reusing = False


def glibc() -> Any:
    """The C library, if it is glibc. Only there is a choice."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt, library.gnu_get_libc_version  # noqa: B018
    except (AttributeError, OSError, TypeError):
        return None
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    return library


def use_memory(kind: str) -> None:
    """Makes results of 128 KiB or more FRESH, or REUSED, where there is glibc.

    Fresh ones are mapped and unmapped one by one. glibc would still put them into gaps between
    other objects, so these are filled for the time. glibc does not always put a reused result where
    the last one was, so all places have been touched.
    """
    global _reusing
    library = glibc()
    if library is None or (_reusing and kind == REUSED):
        return
    _reusing = kind == REUSED
    for parameter, value in (
        (_MMAP_MAX, 0 if _reusing else 65536),
        (_MMAP_THRESHOLD, _LEAST),
        (_TRIM_THRESHOLD, 2**31 - 1 if _reusing else _LEAST),
    ):
        library.mallopt(parameter, value)
    if _reusing:
        _blocks.append((library.malloc(_HEAP), _HEAP))
        for address, size in _blocks:
            ctypes.memset(address, 0, size)
    for address, _ in _blocks:
        library.free(address)
    _blocks.clear()
    if _reusing:
        return
    return_free_memory()
    size = 1 << 30
    while size >= _LEAST:
        address = library.malloc(size)
        if ctypes.c_size_t.from_address(address - 8).value & 2:  # this one is mapped
            library.free(address)
            size //= 2
        else:
            _blocks.append((address, size))


def ask_for_huge_pages(tensor: torch.Tensor) -> None:
    """Of 2 MiB, for those parts of a tensor on the CPU that can have them."""
    page = 2 << 20
    first = -(-tensor.data_ptr() // page) * page
    size = (tensor.data_ptr() + tensor.nbytes) // page * page - first
    if size > 0 and hasattr(mmap, "MADV_HUGEPAGE") and tensor.device.type == "cpu":
        address = ctypes.c_void_p(first)
        ctypes.CDLL(None).madvise(address, ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)


def page_faults(run: Callable[[], Any]) -> int | None:
    """How many there are in a call, of those that need no disk."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def return_free_memory() -> None:
    """Gives what glibc keeps of freed memory back to the system."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(run: Callable[[], Any], device: str) -> int | None:
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

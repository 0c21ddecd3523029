"""The file from which a run goes on as if it had not stopped, and the folder that it is in."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .distributed import rank, stop

try:
    import fcntl
except ImportError:  # on Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]

CORRUPT = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.PickleError)


class CheckpointError(Exception):
    """A file is no checkpoint; the message is one line."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes the folder of a run, and refuses it while another program trains there.

    The lock goes when the program ends, however that is. Some network drives have no locks.
    """
    if rank() > 0:  # the first process writes, and so it holds the lock
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "w")  # noqa: SIM115  closed below
    except OSError as error:
        stop(f"--out {folder}: {error.strerror}")
    with lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stop(
                f"--out {folder}: another program is training in this folder: wait until it ends, "
                "or give another --out"
            )
        except OSError:
            pass
        yield


def write(state: dict[str, Any], path: Path) -> None:
    """Writes another file and renames it, so that a crash leaves the old checkpoint whole."""
    beside = path.with_suffix(".tmp")
    torch.save(state, beside)
    os.replace(beside, path)


def read(path: Path, names: Iterable[str], settings: dict[str, Any]) -> dict[str, Any]:
    """These parts of a checkpoint, one of them its settings, which must be those of the run."""
    try:
        state = parts(path, names)
    except CheckpointError as error:
        stop(f"{error}; it was left as it is")
    for name, value in settings.items():
        made = state["settings"].get(name)
        if made != value:
            stop(f"{path} was made with {name}={made}, this run has {value}")
    return state


def parts(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """These parts of a checkpoint."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return {name: saved[name] for name in names}
    except CORRUPT as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path} is not a checkpoint that can be read ({reason})") from error

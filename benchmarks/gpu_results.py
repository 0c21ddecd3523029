"""The results file of gpu_acceptance.py, and programs that may take only so long."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Results:
    """A dictionary in a JSON file, which is whole at every moment."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.data: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def save(self, **changes: Any) -> None:
        self.data.update(changes)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.data, indent=1) + "\n")
        os.replace(new, self.file)


class Budget:
    """Seconds that all parts of a run share."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._start, self._seconds = now, now(), seconds

    def used(self) -> float:
        return self._now() - self._start

    def left(self) -> float:
        return self._seconds - self.used()


def run_bounded(
    command: Sequence[str],
    log: Path,
    seconds: float,
    environ: Mapping[str, str] | None = None,
    alive: Path | None = None,
    idle: float = 0.0,
) -> int | str:
    """The exit status; or why the program was stopped, with all that it started: after `seconds`,
    or when the file `alive` was not written for `idle` seconds. The log has all of its output."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    whole = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        **(environ or {}),
    }
    # A group of its own, to be stopped as a whole.
    new = sys.version_info >= (3, 11)
    own_group: dict[str, Any] = {"process_group": 0} if new else {"preexec_fn": os.setpgrp}
    start = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=whole,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **own_group,
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=0.2)
                if time.monotonic() - start > seconds:
                    return f"stopped after {seconds:.0f} s"
                if alive and time.time() - alive.stat().st_mtime > idle:
                    return f"stopped: no progress in {idle:.0f} s"
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the driver
                    process.wait(timeout=5)

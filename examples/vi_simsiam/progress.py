"""The progress of a run of any example: a bar, or lines."""

from __future__ import annotations

import time
from collections.abc import Iterator


class Progress:
    """Shows a tqdm bar if tqdm is installed, and otherwise prints a line every five seconds."""

    def __init__(self, first: int, total: int, silent: bool = False) -> None:
        self.first, self.total, self.silent = first, total, silent
        self.shown, self.start, self.last = first, time.monotonic(), 0.0
        self.bar = None
        if silent:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self.bar = tqdm(initial=first, total=total, unit="step", mininterval=1, ncols=110)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, step: int, text: str) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(step - self.shown)
            self.shown = step
        elif not self.silent and (step == self.total or time.monotonic() - self.last > 5):
            self.last = time.monotonic()
            left = (self.last - self.start) / (step - self.first) * (self.total - step)
            print(f"step {step}/{self.total}: {text}, {left:.0f} s left", flush=True)


def progress(first: int, stop: int, label: str) -> Iterator[int]:
    """The steps, shown as they pass."""
    with Progress(first, stop) as shown:
        for step in range(first, stop):
            yield step
            shown.show(step + 1, label)

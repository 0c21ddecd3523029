"""The steps of a loop, shown as they pass."""

from __future__ import annotations

from collections.abc import Iterator


def progress(first: int, stop: int, label: str) -> Iterator[int]:
    """The steps, with a tqdm bar if tqdm is installed, and otherwise with a line now and then."""
    try:
        from tqdm import tqdm
    except ImportError:
        for step in range(first, stop):
            yield step
            if (step + 1) % 500 == 0 or step + 1 == stop:
                print(f"{label}: step {step + 1}/{stop}", flush=True)
    else:
        steps = range(first, stop)
        yield from tqdm(
            steps, label, initial=first, total=stop, unit="step", mininterval=1, ncols=110
        )

"""Checkpoints: dictionaries of plain values and of what has a state_dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vi_simsiam.checkpoint import read, write


def save(run: dict[str, Any], path: Path) -> None:
    write({k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in run.items()}, path)


def restore(run: dict[str, Any], path: Path) -> None:
    """The settings must be those of this run."""
    for key, part in read(path, run, run["settings"]).items():
        if hasattr(run[key], "load_state_dict"):
            run[key].load_state_dict(part)
        else:
            run[key] = part

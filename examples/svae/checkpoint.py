"""Checkpoints: dictionaries of plain values and of what has a state_dict."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

CORRUPT = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.PickleError)


def save(run: dict[str, Any], path: Path) -> None:
    """Writes another file and renames it, so that a crash leaves the old checkpoint whole."""
    parts = {k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in run.items()}
    torch.save(parts, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def restore(run: dict[str, Any], path: Path) -> None:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        parts = {key: saved[key] for key in run}
    except CORRUPT as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.exit(f"{path} is not a checkpoint that can be read ({reason}); it was left as it is")
    for name, value in run["settings"].items():
        if parts["settings"].get(name) != value:
            made = f"{path} was made with {name}={parts['settings'].get(name)}"
            sys.exit(f"{made}, this run has {value}")
    for key, part in parts.items():
        if hasattr(run[key], "load_state_dict"):
            run[key].load_state_dict(part)
        else:
            run[key] = part

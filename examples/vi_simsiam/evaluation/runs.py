"""The run folders that train_vi_simsiam.py has written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import CORRUPT, CheckpointError, parts
from ..methods import METHODS, Method
from ..model import Network, build_network

OF_THE_DATA = ("data", "image_size", "channels", "view_size")  # alike in all runs of a report


class EvaluationError(Exception):
    """What keeps a report from being made; the message is one line."""


@dataclass
class TrainedRun:
    name: str
    folder: Path
    settings: dict[str, Any]
    step: int  # at which the checkpoint was written
    checkpoint: str  # the SHA-256 of the file
    network: Network
    method: Method

    @property
    def title(self) -> str:
        return f"{self.settings['method']}, seed {self.settings['seed']}"


def open_runs(folders: Sequence[Path], device: torch.device) -> list[TrainedRun]:
    runs = [open_run(folder, device) for folder in folders]
    for run in runs[1:]:
        for key in OF_THE_DATA:
            mine, first = (r.settings.get(key) for r in (run, runs[0]))
            if mine != first:
                raise EvaluationError(
                    f"{run.folder} has {key}={mine}, but {runs[0].folder} has {key}={first}: one "
                    "report is about runs of the same data"
                )
    if len({run.checkpoint for run in runs}) < len(runs):
        raise EvaluationError("two of the runs have the same checkpoint: name each run once")
    if len({run.name for run in runs}) < len(runs):
        for run in runs:
            run.name = str(run.folder)
    return runs


def open_run(folder: Path, device: torch.device) -> TrainedRun:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise EvaluationError(f"{folder} is not a run folder: it has no checkpoint.pt")
    if not os.access(folder, os.W_OK):
        raise EvaluationError(f"{folder} cannot be written to; features.pt is saved there")
    try:
        state = parts(path, ("settings", "step", "model", "method"))
        settings = state["settings"]
        name = settings["method"]
        if name not in METHODS:
            raise EvaluationError(f"{path} is of the method {name}, which methods.py has not")
        network = build_network(METHODS[name], settings)
        method = METHODS[name](settings, network)
        network.load_state_dict(state["model"])
        method.load_state_dict(state["method"])
        seed, total = int(settings["seed"]), int(settings["total_steps"])
        settings |= {"seed": seed, "total_steps": total}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except CheckpointError as error:
        raise EvaluationError(str(error)) from error
    except CORRUPT as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EvaluationError(
            f"{path} is not of a run that train_vi_simsiam.py has made ({reason})"
        ) from error
    network = network.to(device, memory_format=torch.channels_last).eval()
    method = method.to(device)
    name = folder.resolve().name
    return TrainedRun(name, folder, settings, state["step"], digest, network, method)

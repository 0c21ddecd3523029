"""What a run saves, and from which it goes on as if it had not stopped."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .augment import Random
from .distributed import stop
from .methods import Method
from .model import Network

LOG_KEYS = ("loss", "cosine", "kappa", "spread")
CORRUPT = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.PickleError)


@dataclass
class Run:
    network: Network
    method: Method
    optimizer: torch.optim.Optimizer
    random: Random
    settings: dict[str, Any]
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in LOG_KEYS})

    def save(self, path: Path) -> None:
        """Writes another file and renames it, so that a crash leaves the old checkpoint whole."""
        state = {
            "model": self.network.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.random.generator.get_state(),
            "settings": self.settings,
            "step": self.step,
            "history": self.history,
        }
        beside = path.with_suffix(".tmp")
        torch.save(state, beside)
        os.replace(beside, path)

    def load(self, path: Path) -> None:
        """The settings must be those of this run."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            settings, step, history = (state[key] for key in ("settings", "step", "history"))
            parts = ("model", "method", "optimizer", "generator")
            network, method, optimizer, generator = (state[key] for key in parts)
        except CORRUPT as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            stop(f"{path} is not a checkpoint that can be read ({reason}); it was left as it is")
        for name, value in self.settings.items():
            if settings.get(name) != value:
                stop(f"{path} was made with {name}={settings.get(name)}, this run has {value}")
        self.network.load_state_dict(network)
        self.method.load_state_dict(method)
        self.optimizer.load_state_dict(optimizer)
        self.random.generator.set_state(generator)
        self.step, self.history = step, history

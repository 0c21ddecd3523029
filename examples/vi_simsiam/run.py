"""A run, and what of it is saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .augment import Random
from .checkpoint import read, write
from .methods import Method
from .model import Network

LOG_KEYS = ("loss", "cosine", "kappa", "spread")


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
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        generator = self.random.generator.get_state()
        values = {"settings": self.settings, "step": self.step, "history": self.history}
        write({**parts, "generator": generator, **values}, path)

    def load(self, path: Path) -> None:
        """The settings must be those of this run."""
        parts = self._parts()
        state = read(path, (*parts, "generator", "settings", "step", "history"), self.settings)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.random.generator.set_state(state["generator"])
        self.step, self.history = state["step"], state["history"]

    def _parts(self) -> dict[str, Any]:
        return {"model": self.network, "method": self.method, "optimizer": self.optimizer}

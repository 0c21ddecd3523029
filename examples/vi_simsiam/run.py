"""A run, and what of it is saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .augment import Random
from .checkpoint import read, write
from .distributed import stop
from .methods import Method
from .model import Network

LENGTH = "total_steps"
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
        """The settings must be those of this run, except that a finished run can be prolonged: its
        learning rate then goes on as that of a run of the new length."""
        parts = self._parts()
        names = (*parts, "generator", "settings", "step", "history")
        state = read(path, names, {k: v for k, v in self.settings.items() if k != LENGTH})
        length, wanted = state["settings"][LENGTH], self.settings[LENGTH]
        finished = state["step"] == length
        if wanted < length or (wanted > length and not finished):
            stop(
                f"{path} is of a run of {length} steps, this run has {wanted}: only a finished run "
                "can be prolonged, and none shortened"
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.random.generator.set_state(state["generator"])
        self.step, self.history = state["step"], state["history"]

    def _parts(self) -> dict[str, Any]:
        return {"model": self.network, "method": self.method, "optimizer": self.optimizer}

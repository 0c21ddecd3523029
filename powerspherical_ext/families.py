"""The list of families."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from torch.distributions.constraints import Constraint

from .distributions.constraints import finite_nonnegative
from .reference import FAMILIES as MODULES

__all__ = ["FAMILIES", "Family", "family_named"]


@dataclass(frozen=True)
class Family:
    """An entry of `FAMILIES`."""

    name: str
    index: int
    reference: ModuleType
    concentration: Constraint


FAMILIES = tuple(
    Family(module.__name__.rpartition(".")[2], index, module, finite_nonnegative)
    for index, module in enumerate(MODULES)
)
_BY_NAME = {family.name: family for family in FAMILIES}


def family_named(name: str) -> Family:
    """The family that the ``distribution`` argument of a loss names."""
    family = _BY_NAME.get(name)
    if family is None:
        raise ValueError(f"distribution must be one of {(*_BY_NAME,)}, got {name!r}")
    return family

"""Parametrises the benchmarks: work x size, and innermost the peers that can do it."""

from __future__ import annotations

import pytest
import torch
from peers import PEERS
from work import LARGE, Case


def parametrize(
    metafunc: pytest.Metafunc, quantities: tuple[str, ...], sizes: tuple[tuple[int, int], ...]
) -> None:
    option = metafunc.config.getoption
    if option("--smallest"):
        sizes = sizes[:1]
    elif option("--large") or option("--device") == "cuda":
        sizes = (*sizes, LARGE)
    pairs = [
        pytest.param(case, peer, id=f"{case.work}-{n}x{d}-{peer.name}".replace(" ", "_"))
        for quantity in quantities
        for backward in ((True,) if quantity == "loss" else (False, True))
        for n, d in sizes
        for case in [
            Case(
                quantity,
                backward,
                n,
                d,
                dtype=getattr(torch, option("--dtype")),
                device=option("--device"),
            )
        ]
        for peer in PEERS
        if peer.can(case)
    ]
    metafunc.parametrize(("case", "peer"), pairs)

"""The sizes and the peers of each timed work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch
from peer import Peer
from peers import PEERS
from work import FAMILIES, QUANTITIES, Case

Sizes = tuple[tuple[int, int], ...]
LARGEST, LARGE = (4096, 2048), (65536, 2048)

# The first size of each is for --smallest; (8, 16) shows the overhead of a call.
SIZES: dict[tuple[str, str], Sizes] = {
    ("PowerSpherical", "log_prob"): ((8, 16), (128, 8), (512, 64), (512, 2048), LARGEST),
    ("PowerSpherical", "rsample"): ((128, 8), (1024, 8), (512, 64), (512, 2048), LARGEST),
    ("VonMisesFisher", "log_prob"): ((8, 16), (512, 64), (65536, 2), (1_000_000, 3), LARGEST),
    ("VonMisesFisher", "log_prob of one law"): ((512, 64), (1_000_000, 3), LARGEST),
    ("VonMisesFisher", "rsample"): ((1024, 8), (512, 64), (65536, 3), LARGEST),
    ("PowerSpherical", "loss"): ((128, 8), (512, 64), (512, 2048)),
}
# A family without rows of its own has these.
_OTHER_SIZES: Sizes = ((8, 16), (512, 64), (512, 2048), LARGEST)
for _family in [name for name in FAMILIES if not any(name == family for family, _ in SIZES)]:
    SIZES |= {(_family, quantity): _OTHER_SIZES for quantity in ("log_prob", "rsample")}
for _family in FAMILIES:
    SIZES[_family, "raw log_prob"] = ((4096, 64), (1024, 256), (512, 2048))
    SIZES[_family, "validated log_prob"] = ((8, 16), (512, 64), LARGEST)
ONE_THREAD = ("raw log_prob",)
# Other dtypes, and one thread at the largest size, are timed for these peers alone, to save time.
DTYPES, DTYPE_SIZE = (torch.float64, torch.bfloat16), (512, 2048)
VARIANT_PEERS = tuple(peer for peer in PEERS if peer.name in ("ours", "power-spherical"))
MEMORY_BOUND = 8 << 20  # bytes; cases that move more are timed in both kinds of memory
# The cells of the speed map.
MAP_N, MAP_D = (8, 64, 512, 4096), (3, 16, 128, 1024)
# Sizes become symbols for torch.compile. JAX would compile its samples for minutes. They took 3 to
# 20 times as long as ours where that was measured.
_IN_MAP = {"power-spherical, compiled": {"sizes": (), "dynamic": None}}
_IN_MAP["TFP on JAX"] = {"quantities": ("log_prob",)}
MAP_PEERS = [replace(peer, **_IN_MAP.get(peer.name, {})) for peer in PEERS if peer.rival]


def suite(quantities: Iterable[str], config: pytest.Config) -> Iterator[Case]:
    """The cases of the tables."""
    options = _options(config)
    for (family, quantity), sizes in SIZES.items():
        if quantity not in quantities:
            continue
        if config.getoption("--smallest"):
            sizes = sizes[:1]
        elif config.getoption("--large") or config.getoption("--device") == "cuda":
            sizes = (*sizes, LARGE)
        passes = (True,) if quantity == "loss" else (False, True)
        for backward in passes if QUANTITIES[quantity].differentiated else (False,):
            for n, d in sizes:
                case = Case(quantity, backward, n, d, family=family, **options)
                if quantity in ONE_THREAD:
                    case = replace(case, threads=1)
                yield case
                if case.device == "cpu" and case.bytes_moved >= MEMORY_BOUND:
                    yield replace(case, other_memory=True)


def variants(config: pytest.Config) -> Iterator[Case]:
    """The cases of other dtypes, and of one thread."""
    rows = [(DTYPE_SIZE, _options(config) | {"dtype": dtype}) for dtype in DTYPES]
    if config.getoption("--device") == "cpu" and torch.get_num_threads() > 1:
        rows.append((LARGEST, _options(config) | {"threads": 1}))
    for (n, d), options in rows:
        if config.getoption("--smallest"):
            n, d = 128, 8
        for quantity in ("log_prob", "rsample"):
            for backward in (False, True):
                yield Case(quantity, backward, n, d, **options)


def speed_map(config: pytest.Config) -> Iterator[Case]:
    """The cells of the speed map."""
    cells = [(n, d) for n in MAP_N for d in MAP_D]
    for family in FAMILIES:
        for quantity in ("log_prob", "rsample"):
            for backward in (False, True):
                for n, d in cells[:2] if config.getoption("--smallest") else cells:
                    yield Case(quantity, backward, n, d, family=family, **_options(config))


def _options(config: pytest.Config) -> dict[str, object]:
    return {
        "dtype": getattr(torch, config.getoption("--dtype")),
        "device": config.getoption("--device"),
    }


def parametrize(
    metafunc: pytest.Metafunc, cases: Iterable[Case], peers: Iterable[Peer] = PEERS
) -> None:
    """Pairs each case with the peers that can do it, ours first."""
    pairs = [
        pytest.param(case, peer, id=f"{case}-{peer.name}".replace(" ", "_"))
        for case in cases
        for peer in peers
        if peer.can(case)
    ]
    metafunc.parametrize(("case", "peer"), pairs)

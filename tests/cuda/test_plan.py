"""The index arithmetic of csrc/cuda/plan.h: which thread has which element of which row."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from compiling import shared_library
from hypothesis import given
from hypothesis import strategies as st

LAYOUTS = WIDE, NEIGHBOURS, STRIDED = range(3)
SIZES = (2, 3, 4, 7, 16, 63, 64, 65, 128, 129, 256, 257, 512, 1000, 2048, 2049, 4097, 8192, 8195)
# (d, layout, float32): a wide layout is for rows of whole packs, which hold 4 floats or 2 doubles.
ROWS = [
    (d, layout, single)
    for d, layout, single in itertools.product(SIZES, LAYOUTS, (True, False))
    if layout != WIDE or d % (4 if single else 2) == 0
]
LONG = (16_385, 10**6, 2**31 + 8, 2**34 - 4)
LARGE = [(2**35, 3), (2**20, 2**12), (511, 2**31 + 8), (1, 2**34 - 4), (2**31 + 1, 4100)]


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """plan.cpp as a library."""
    source = Path(__file__).parent / "plan.cpp"
    loaded = ctypes.CDLL(str(shared_library(tmp_path_factory, source, "-O2")))
    loaded.blocks.restype = ctypes.c_int64
    return loaded


class Plan:
    def __init__(
        self, library: ctypes.CDLL, n: int, d: int, layout: int = WIDE, single: bool = True
    ) -> None:
        self.library, self.n, self.d, self.single = library, n, d, single
        self.wanted = layout
        out = self._call(10, "plan", single, n, d, layout)
        self.team, self.threads, self.parts, self.length, self.chunk, self.packs = out[:6]
        self.resident, self.split, self.layout, self.rows = bool(out[6]), bool(out[7]), *out[8:]

    def _call(self, size: int, name: str, single: bool, *arguments: int) -> list[int]:
        out = np.full(size, -1, np.int64)
        numbers = (ctypes.c_int64(x) for x in arguments)
        self.returned = getattr(self.library, name)(
            ctypes.c_bool(single), *numbers, ctypes.c_void_p(out.ctypes.data)
        )
        return [int(x) for x in out]

    def item(self, i: int) -> tuple[int, int, int, int]:
        row, part, begin, end = self._call(4, "item", self.single, self.n, self.d, i)
        return row, part, begin, end

    def pack(self, begin: int, rank: int, q: int) -> list[int]:
        found = self._call(4, "pack", self.single, self.d, self.wanted, begin, rank, q)
        return found[: self.returned]

    def elements(self, begin: int, end: int) -> Iterator[int]:
        """What a team reads of a part."""
        for chunk in range(begin, end, self.chunk):
            for rank in range(self.team):
                for q in range(self.packs):
                    yield from self.pack(chunk, rank, q)


@pytest.mark.parametrize(("d", "layout", "single"), ROWS)
def test_each_element_of_a_row_is_read_once(
    plans: ctypes.CDLL, d: int, layout: int, single: bool
) -> None:
    plan = Plan(plans, 3, d, layout, single)
    seen: list[int] = []
    for i in range(2 * plan.parts, 3 * plan.parts):
        row, part, begin, end = plan.item(i)
        assert (row, part) == (2, i - 2 * plan.parts)
        assert end - begin <= plan.length
        seen += plan.elements(begin, end)
    assert sorted(seen) == list(range(d))
    assert plan.resident == (d <= plan.chunk)


@given(
    d=st.sampled_from([*SIZES, *LONG]) | st.integers(2, 2**34),
    layout=st.sampled_from(LAYOUTS),
    single=st.booleans(),
    data=st.data(),
)
def test_part_of_a_long_row(
    plans: ctypes.CDLL, d: int, layout: int, single: bool, data: st.DataObject
) -> None:
    """One chunk, wherever it is: each element once, wide packs aligned and complete."""
    width = 4 if single else 2
    if layout == WIDE:
        d = d // width * width or width
    plan = Plan(plans, 5, d, layout, single)
    p = data.draw(st.integers(0, plan.parts - 1))
    _, part, begin, end = plan.item(3 * plan.parts + p)
    assert (part, begin, end) == (p, p * plan.length, min((p + 1) * plan.length, d))
    chunk = data.draw(st.sampled_from(range(begin, end, plan.chunk)))
    stop = min(chunk + plan.chunk, end)
    packs = [plan.pack(chunk, r, q) for r in range(plan.team) for q in range(plan.packs)]
    assert sorted(x for pack in packs for x in pack) == list(range(chunk, stop))
    if layout == WIDE:
        assert all(not pack or (len(pack) == width and pack[0] % width == 0) for pack in packs)


@pytest.mark.parametrize("single", [True, False])
def test_threads_of_a_warp_read_side_by_side(plans: ctypes.CDLL, single: bool) -> None:
    """Where rows are not aligned: element k of the packs of 32 threads is 32 neighbours."""
    plan = Plan(plans, 1, 1001, STRIDED, single)
    for q in range(plan.packs):
        packs = [plan.pack(0, rank, q) for rank in range(32)]
        for k in range(4 if single else 2):
            column = [pack[k] for pack in packs]
            assert column == list(range(column[0], column[0] + 32))


def test_teams(plans: ctypes.CDLL) -> None:
    """Several rows to a warp, a warp, then as many warps as hold the row."""
    sizes = {2: 1, 4: 1, 5: 2, 8: 2, 16: 4, 64: 16, 128: 32, 256: 32, 257: 64, 512: 64, 1024: 128}
    for d, team in (sizes | {2048: 256, 2049: 256, 10**6: 256}).items():
        plan = Plan(plans, 10, d)
        assert (plan.team, plan.threads) == (team, 128 if team <= 32 else team)
        assert plan.resident == (d <= 2048)
    assert [Plan(plans, 1, d).parts for d in (8192, 8193, 10**6)] == [1, 2, 123]


def test_few_long_rows_are_split(plans: ctypes.CDLL) -> None:
    for n, d, split in [(1, 10**6, True), (511, 8193, True), (512, 10**6, False), (1, 8192, False)]:
        assert Plan(plans, n, d).split is split


def test_rows_of_a_team(plans: ctypes.CDLL) -> None:
    """Several where there are many, as far as the team has a thread for each."""
    sizes = {(8191, 2048): 1, (8192, 2048): 2, (16384, 2048): 4, (65536, 2048): 8, (10**7, 2048): 8}
    sizes |= {(512, 64): 1, (65536, 64): 2, (10**6, 64): 8, (10**8, 4): 1, (10**8, 8): 2}
    sizes |= {(1, 10**6): 1, (511, 10**6): 1, (32768, 10**6): 8}
    for (n, d), rows in sizes.items():
        plan = Plan(plans, n, d)
        assert plan.rows == rows, (n, d)
        assert not (plan.split and rows > 1)


@pytest.mark.parametrize(("n", "d"), LARGE)
def test_more_elements_than_32_bits_count(plans: ctypes.CDLL, n: int, d: int) -> None:
    plan = Plan(plans, n, d)
    for row in (0, n // 2, n - 1):
        for p in (0, plan.parts - 1):
            begin = p * plan.length
            expected = (row, p, begin, min(begin + plan.length, d))
            assert plan.item(row * plan.parts + p) == expected
    teams = plan.threads // plan.team
    for items in (0, 1, n, n * plan.parts):
        numbers = (ctypes.c_int64(x) for x in (n, d, items))
        assert plans.blocks(*numbers) == -(-items // (teams * plan.rows))

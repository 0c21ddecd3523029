"""The index arithmetic of csrc/operands.h: where row i of a broadcast operand starts."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import numpy as np
import pytest
from compiling import shared_library
from hypothesis import assume, given
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """rows.cpp as a library."""
    source = Path(__file__).parent / "rows.cpp"
    return ctypes.CDLL(str(shared_library(tmp_path_factory, source, "-O2")))


def offsets(
    library: ctypes.CDLL, sizes: list[int], strides: list[list[int]], queries: list[int]
) -> tuple[int, list[list[int]]]:
    """The number of dimensions after merging, and the offsets of the queried rows by operand."""
    out = np.empty((2, len(queries)), np.int64)
    arrays = [np.array(x, np.int64) for x in (sizes, strides, queries)] + [out]
    size, stride, query, result = (ctypes.c_void_p(x.ctypes.data) for x in arrays)
    n = ctypes.c_int64(len(queries))
    ndim = library.row_offsets(len(sizes), size, stride, n, query, result)
    return ndim, out.tolist()


def contiguous(sizes: list[int], step: int) -> list[int]:
    return [step * math.prod(sizes[j + 1 :]) for j in range(len(sizes))]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[int], list[list[int]], list[int]]:
    """Sizes, the strides of two operands and some rows: contiguous, expanded or any strides."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 5, 2**20]), max_size=8))
    assume(math.prod(sizes) <= 2**50)  # the strides of more do not fit 64 bits
    strides = []
    for _ in range(2):
        stride = contiguous(sizes, draw(st.sampled_from([1, 7, 2048])))
        kind = st.sampled_from(["contiguous", "expanded", "any"])
        for j in range(len(sizes)):
            chosen = draw(kind)
            if chosen != "contiguous":
                stride[j] = 0 if chosen == "expanded" else draw(st.integers(0, 2**33))
        strides.append(stride)
    last = math.prod(sizes) - 1
    return sizes, strides, [0, last, *draw(st.lists(st.integers(0, last), max_size=5))]


@given(layout=layouts())
def test_offset_is_the_sum_of_index_times_stride(
    rows: ctypes.CDLL, layout: tuple[list[int], list[list[int]], list[int]]
) -> None:
    sizes, strides, queries = layout
    ndim, actual = offsets(rows, sizes, strides, queries)
    assert ndim > -2
    for stride, found in zip(strides, actual, strict=True):
        for query, offset in zip(queries, found, strict=True):
            expected, rest = 0, query
            for size, step in zip(reversed(sizes), reversed(stride), strict=True):
                expected += rest % size * step
                rest //= size
            assert (offset - expected) % 2**64 == 0


def test_what_is_contiguous_or_expanded_merges(rows: ctypes.CDLL) -> None:
    sizes = [4, 1, 5, 6]
    assert offsets(rows, sizes, [contiguous(sizes, 64), [0, 0, 0, 0]], [0])[0] == 1
    assert offsets(rows, sizes, [contiguous(sizes, 64), [0, 0, 64, 0]], [0])[0] == 3


def test_offsets_beyond_32_bits(rows: ctypes.CDLL) -> None:
    ndim, found = offsets(rows, [2**33], [[2048], [1]], [2**33 - 1])
    assert (ndim, found) == (1, [[2**44 - 2048], [2**33 - 1]])
    ndim, found = offsets(rows, [3, 2**32], [[2**40, 5], [0, 1]], [2 * 2**32 + 7])
    assert (ndim, found) == (2, [[2 * 2**40 + 35], [7]])


def test_more_dimensions_than_there_is_room_for(rows: ctypes.CDLL) -> None:
    assert offsets(rows, [2] * 8, [[3] * 8, [1] * 8], [255])[0] == 8
    assert offsets(rows, [2] * 9, [[3] * 9, [1] * 9], [0])[0] == -1


@pytest.mark.parametrize(
    ("d", "stride", "address", "aligned"),
    [
        (4, 4, 4096, True),
        (2048, 0, 4096, True),
        (8, 12, 4096, True),
        (8, 8, 4104, False),
        (8, 9, 4096, False),
        (6, 8, 4096, False),
    ],
)
def test_alignment(rows: ctypes.CDLL, d: int, stride: int, address: int, aligned: bool) -> None:
    rows.row_is_aligned.restype = ctypes.c_bool
    arguments = (ctypes.c_int64(x) for x in (d, stride, address, 4))
    assert rows.row_is_aligned(*arguments) is aligned

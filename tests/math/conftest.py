"""The library of scalar functions that the tests of csrc/math call."""

import ctypes
from pathlib import Path

import pytest
from compiling import CSRC, FAMILY_SOURCES, shared_library


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """scalar_math.cpp as a library."""
    flags = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]  # as the build
    source = Path(__file__).parent / "scalar_math.cpp"
    flags += [f"-I{CSRC / 'math'}", *FAMILY_SOURCES]
    return ctypes.CDLL(str(shared_library(tmp_path_factory, source, *flags)))

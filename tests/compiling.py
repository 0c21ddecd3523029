"""Compiles C++ for the tests: once in a run, however many worker processes share the run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

CSRC = Path(__file__).parents[1] / "csrc"
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
FAMILY_SOURCES = [str(path) for path in sorted(CSRC.glob("cpu/families/*.cpp"))]  # for OverRows


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """The file `name`, which the first process to ask for it builds while the others wait.

    A worker of pytest-xdist has its base folder within that of the run.
    """
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    result = folder / name
    with FileLock(f"{result}.lock"):
        if not result.exists():
            unfinished = folder / f"unfinished-{name}"
            build(unfinished)
            unfinished.rename(result)
    return result


def shared_library(factory: pytest.TempPathFactory, source: Path, *flags: str) -> Path:
    """One source as a library."""
    return _compiled(factory, source, f"{source.stem}.so", "-shared", "-fPIC", *flags)


def program(factory: pytest.TempPathFactory, source: Path, *flags: str) -> Path:
    """One source as a program."""
    return _compiled(factory, source, source.stem, *flags)


def _compiled(factory: pytest.TempPathFactory, source: Path, name: str, *flags: str) -> Path:
    """With CXX, c++ or g++."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++"))), "")
    if not compiler:
        if "CI" in os.environ:
            pytest.fail("no C++ compiler")
        pytest.skip("no C++ compiler")

    def build(result: Path) -> None:
        command = [compiler, *STRICT, *flags, f"-I{CSRC}", source, "-o", result]
        subprocess.run(command, check=True)

    return once(factory, name, build)

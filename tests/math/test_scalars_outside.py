"""outside.cpp: scalar functions return NaN outside of the domain, at once, and nothing is unset."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from compiling import FAMILY_SOURCES, program


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).parent / "outside.cpp"
    flags = ["-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
    return program(tmp_path_factory, source, *flags, *FAMILY_SOURCES)


def test_nan_outside(outside: Path) -> None:
    done = subprocess.run([outside], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_nothing_is_uninitialised(outside: Path) -> None:
    command = ["valgrind", "--quiet", "--error-exitcode=9", outside]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr

"""csrc/families.h names the function that a family lacks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = (HERE / "family_contract.cpp").read_text()

pytestmark = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")


def compile_source(source: str) -> subprocess.CompletedProcess[str]:
    command = ["c++", "-std=c++17", "-fsyntax-only", f"-I{HERE.parents[1] / 'csrc'}", "-xc++", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False)


def test_a_family_that_is_not_exponential_satisfies_the_contract() -> None:
    done = compile_source(SOURCE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("missing", "declaration", "instead"),
    [
        ("constant name", "*name", "*title"),
        ("constant upper_bound", "upper_bound", "bound"),
        ("constant upper_bound", "3.0", "0.1"),  # no number of float
        ("function kl_uniform_dkappa", "T kl_uniform_dkappa(T,", "T kl_dkappa(T,"),
        ("function log_prob_ratio_dkappa", "T log_prob_ratio_dkappa(T, const Dim<T> &,",
         "T log_prob_ratio_dkappa("),
        ("function sample", "T, T, const Noise &)", "const Noise &)"),
    ],
)  # fmt: skip
def test_the_error_names_what_is_missing(missing: str, declaration: str, instead: str) -> None:
    """A function counts as missing where it has another name, or other arguments."""
    assert SOURCE.count(declaration) == 1
    done = compile_source(SOURCE.replace(declaration, instead))
    assert done.returncode != 0
    assert f"this family lacks the {missing} of csrc/families.h" in done.stderr
    assert done.stderr.count("this family lacks") == 1

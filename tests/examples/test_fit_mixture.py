"""examples/fit_mixture.py: a short run on the digits of scikit-learn, as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import powerspherical_ext

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).parents[2] / "examples" / "fit_mixture.py"


def run(*options):
    same_package = {**os.environ, "PYTHONPATH": str(Path(powerspherical_ext.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--data", "digits", *options],
        capture_output=True,
        text=True,
        timeout=300,
        env=same_package,
    )


@pytest.mark.slow
def test_it_chooses_by_the_bic_and_draws(tmp_path):
    options = ["--dim", "6", "--components", "2", "15", "60", "--starts", "1"]
    result = run(*options, "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    row = r"(\d+) +(free|shared) +\S+ +(\S+) +\d+ +(\S+) +\S+\n"
    fits = [
        (float(bic), k, name, float(rand)) for k, name, bic, rand in re.findall(row, result.stdout)
    ]
    assert len(fits) == 6
    _, k, name, rand = min(fits)
    assert k == "15"  # neither the fewest nor the most
    assert f"mixture of {k} components with {name} concentration" in result.stdout
    assert rand > 0.2  # 0 is chance
    assert (tmp_path / "fit_mixture.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dim", "1"], "--dim must be from 2 to 64"),
        (["--components", "0"], "--components must be from 1 to 1797"),
        (["--starts", "0"], "--starts must be at least 1"),
    ],
)
def test_bad_options(options, message):
    result = run(*options)
    assert result.returncode == 2
    assert message in result.stderr

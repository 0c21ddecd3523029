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


@pytest.mark.slow
def test_it_prints_a_rising_likelihood_and_draws(tmp_path):
    command = [sys.executable, str(SCRIPT), "--data", "digits", "--dim", "8", "--iterations", "5"]
    same_package = {**os.environ, "PYTHONPATH": str(Path(powerspherical_ext.__file__).parents[1])}
    run = subprocess.run(
        [*command, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=same_package,
    )
    assert run.returncode == 0, run.stderr
    likelihoods = [float(x) for x in re.findall(r"log-likelihood (\S+)", run.stdout)]
    assert len(likelihoods) == 5
    assert likelihoods == sorted(likelihoods)
    ours, theirs = re.search(r"Rand index ([\d.]+), .* ([\d.]+)\n", run.stdout).groups()
    assert min(float(ours), float(theirs)) > 0.2  # 0 is chance
    assert (tmp_path / "fit_mixture.png").stat().st_size > 10_000

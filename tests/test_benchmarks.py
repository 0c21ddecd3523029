"""The benchmarks still run: the smallest size, once, with every check of results; nothing timed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_suite_runs_and_every_peer_is_right():
    pytest.importorskip("pytest_benchmark")
    root = str(BENCHMARKS.parent)  # an installed copy of the package is not what is tested
    command = [sys.executable, "-m", "pytest", "benchmarks", "--smallest", "--benchmark-disable"]
    done = subprocess.run(
        [*command, "-q"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_the_stability_map_runs(monkeypatch):
    pytest.importorskip("power_spherical")
    pytest.importorskip("scipy")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import stability

    for peer in stability.measure((3, 8), (1.0, 100.0))["summary"].values():
        assert (peer["samples_wrong"], peer["densities_wrong"]) == (0, 0)


@pytest.fixture
def report():
    spec = importlib.util.spec_from_file_location("report", BENCHMARKS / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_report_shows_a_slower_row_in_bold(report, tmp_path):
    row = {"family": "PowerSpherical", "work": "log_prob forward", "dtype": "float32"}
    row |= {"n": 8, "d": 16, "threads": 2, "bytes": 1024, "seconds": 2e-5, "ratio": 1.0}
    rows = [row | {"peer": "ours"}, row | {"peer": "swift", "seconds": 1e-5, "ratio": 0.5}]
    rows.append(row | {"peer": "late", "skipped": "not compiled in 45 s"})
    head = {"machine": "a machine", "commit": "0", "date": "today", "versions": {"torch": "2"}}
    head |= {"load_average": 0.0, "load_average_after": 0.0, "read_bandwidth": 1e10}
    (tmp_path / "a.json").write_text(json.dumps(head | {"rows": rows}))
    assert "| 8 x 16 | 20 µs | 0.1 |  | 10 µs (**0.5x**) | skipped |" in report.markdown(tmp_path)


def test_the_readme_shows_the_results_of_the_repository(report):
    readme = report.README.read_text()
    if report.BEGIN in readme:
        shown = readme.split(report.BEGIN)[1].split(report.END)[0].strip()
        assert shown == report.markdown().strip(), "run python benchmarks/report.py --write-readme"

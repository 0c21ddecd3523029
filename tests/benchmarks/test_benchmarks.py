"""The benchmarks still run: the smallest size, once, with every check of results; nothing timed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
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


@pytest.fixture
def benchmarks(monkeypatch):
    """Imports a module of benchmarks/."""
    pytest.importorskip("power_spherical")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_the_stability_map_runs(benchmarks):
    maps = benchmarks("stability").measure((3, 8), (1.0, 5.0))
    for peers in maps["families"].values():
        assert "powerspherical_ext" in peers
        for peer in peers.values():
            wrong = ("samples_wrong", "densities_wrong", "densities_not_finite")
            assert [peer[key] for key in wrong] == [0, 0, 0]


def test_the_stability_map_grades_a_wrong_sampler(benchmarks):
    """Above kappa = 10 the envelope of the s-vae code is that of kappa far above d."""
    stability = benchmarks("stability")
    peers = stability.PEERS["VonMisesFisher"]
    grades = {
        name: stability.grade(peers[name](), "VonMisesFisher", 64, 15.0)[0]
        for name in ("powerspherical_ext", "s-vae style")
    }
    assert grades["powerspherical_ext"] > 1e-3
    assert grades["s-vae style"] < stability.P_VALUE


@pytest.mark.parametrize("d", [2, 3, 64, 2048])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 1e3, 1e7])
def test_the_law_of_the_stability_map(benchmarks, d, kappa):
    mpmath = pytest.importorskip("mpmath")
    law = benchmarks("law").Law
    b, y = (d - 1) / 2, np.geomspace(1e-9, 1 - 1e-9, 500)
    expected = scipy.special.betainc(b, b + kappa, y)
    np.testing.assert_allclose(law("PowerSpherical", d, kappa).cdf(y), expected, atol=1e-5)
    with mpmath.workdps(40):
        b, k = mpmath.mpf(d - 1) / 2, mpmath.mpf(kappa)
        peak = mpmath.loggamma(2 * b + k) - mpmath.loggamma(b + k) - b * mpmath.log(4 * mpmath.pi)
        log_c = (b - 0.5) * mpmath.log(k) - (b + 0.5) * mpmath.log(2 * mpmath.pi)
        peak_vmf = k + log_c - mpmath.log(mpmath.besseli(b - 0.5, k))
    for family, expected in (("PowerSpherical", peak), ("VonMisesFisher", peak_vmf)):
        actual = law(family, d, kappa).log_normalizer
        assert actual == pytest.approx(float(expected), rel=1e-14, abs=1e-11)


def test_a_wrong_result_fails_the_check(benchmarks):
    """A density off by 1 %, samples of another law, and a biased gradient in kappa."""
    work, peers = benchmarks("work"), benchmarks("peers")
    case = work.Case("log_prob", True, 512, 64)
    result = peers.OURS.prepare(case)()
    work.check(case, [result])
    with pytest.raises(AssertionError, match="relative error"):
        work.check(case, [(result[0] * 1.01, *result[1:])])
    case = work.Case("rsample", True, 1024, 8, family="VonMisesFisher")
    results = [peers.OURS.prepare(case)() for _ in range(work.draws(case))]
    work.check(case, results)
    for wrong, message in (
        ([(-x, mu, k) for x, mu, k in results], "mean cosine"),
        ([(x, mu, 1.3 * k) for x, mu, k in results], "gradient in kappa"),
        ([(x, 1.1 * mu, k) for x, mu, k in results], "gradient in loc"),
    ):
        with pytest.raises(AssertionError, match=message):
            work.check(case, wrong)


def test_peak_memory(benchmarks):
    clock = benchmarks("clock")
    peak = clock.peak_memory(lambda: torch.ones(64 << 20) + 1, "cpu")
    assert peak is None or 1.98 * (256 << 20) < peak < 2.1 * (256 << 20)


@pytest.fixture
def results():
    """A file of results as the suite writes it."""
    row = {"family": "PowerSpherical", "work": "log_prob forward", "dtype": "float32"}
    row |= {"n": 512, "d": 64, "threads": 2, "device": "cpu", "bytes": 1024}
    row |= {"seconds": 2e-5, "ratio": 1.0, "rounds": 20}
    rows = [row | {"peer": "ours"}, row | {"peer": "swift", "seconds": 1e-5, "ratio": 0.5}]
    rows.append(row | {"peer": "late", "skipped": "not compiled in 45 s"})
    rows.append(row | {"peer": "bad", "ratio": 3.0, "wrong": "mean cosine 30 standard errors off"})
    head = {"machine": "a machine", "commit": "0", "date": "today", "versions": {"torch": "2"}}
    head |= {"load_average": 0.0, "load_average_after": 0.0, "read_bandwidth": 1e10}
    return head | {"peers": {"ours": "", "swift": "a note"}, "rows": rows}


def test_the_report_shows_what_is_slower_and_what_is_wrong(benchmarks, results, tmp_path):
    report = benchmarks("report")
    (tmp_path / "a.json").write_text(json.dumps(results))
    shown = report.tables(results)
    assert "| 512 x 64 | 20 µs | 0.1 |  | 10 µs (**0.5x**) | skipped | ~~20 µs (3x)~~ |" in shown
    assert "- swift: PowerSpherical log_prob forward 512 x 64 float32 0.5x" in shown
    assert "- bad, PowerSpherical log_prob forward 512 x 64 float32: mean cosine" in shown
    line = "| log_prob forward | 512 x 64 | 20 µs |  | **0.5x** | skipped | ~~3x~~ |"
    assert line in report.summary(tmp_path)


def test_targets_are_missed_where_they_are(benchmarks, results):
    targets, report = benchmarks("targets"), benchmarks("report")
    row = results["rows"][0] | {"n": 8, "d": 16}
    rows = [
        row | {"peer": "ours"},
        row | {"peer": "ours, op only", "ratio": 0.5},
        row | {"peer": "one torch op", "ratio": 0.2},
    ]
    through = {t.subject: t for t in targets.TARGETS if t.peer == "one torch op" and t.at_most}
    values = {name: targets.measured(rows, target)[0] for name, target in through.items()}
    assert values == pytest.approx({"ours": 5.0, "ours, op only": 2.5})
    table = "\n".join(report._targets(rows))
    assert "ours / one torch op | at most 3x | 5x | **missed** |" in table
    assert "ours, op only / one torch op | at most 3x | 2.5x | met |" in table
    assert "not measured" in table


def test_the_repository_shows_its_results(benchmarks):
    report = benchmarks("report")
    readme, hint = report.README.read_text(), "run python benchmarks/report.py"
    shown = readme.split(report.BEGIN)[1].split(report.END)[0].strip()
    assert shown == report.summary().strip(), hint
    for file in report._results(report.RESULTS):
        expected = report.tables(json.loads(file.read_text()))
        assert file.with_suffix(".md").read_text() == expected, hint

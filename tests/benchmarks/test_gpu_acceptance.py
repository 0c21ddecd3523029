"""benchmarks/gpu_acceptance.py, as far as it runs without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import needs_kernels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def acceptance(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_acceptance

    return gpu_acceptance


def test_without_gpu_it_says_so_in_one_line() -> None:
    script = BENCHMARKS / "gpu_acceptance.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gpu_acceptance: no GPU here; nothing was built, tested or timed\n"


@needs_kernels
@pytest.mark.filterwarnings("ignore")  # of the peers
@pytest.mark.parametrize("quantity", ["log_prob", "rsample", "loss"])
def test_what_is_timed_runs(acceptance, quantity: str) -> None:
    """On the CPU, and at one small size."""
    from work import Case

    case = Case(quantity, True, 128, 8)
    runs = acceptance.without_failures(acceptance.runs_of(case, False), 1)
    assert "ours" in runs
    if quantity == "loss":
        assert "plain torch" in runs
    results = runs["ours"]()
    assert len(results) == 1 + len(case.wanted)
    assert all(x.isfinite().all() for x in results)
    if quantity == "rsample":
        grad_loc, grad_kappa = acceptance.rsample_backward(case)()
        assert (grad_loc.shape, grad_kappa.shape) == ((128, 8), (128,))


def test_targets(acceptance) -> None:
    """From times that are made up: half the copy bandwidth, and peers that take 6 times as long."""
    from work import Case

    rows = []
    for quantity, backward in [("log_prob", False), ("log_prob", True), ("rsample", False)]:
        case = Case(quantity, backward, 1000, 10, device="cuda")
        seconds = case.bytes_moved / 1e9
        times = {"ours": [seconds] * 3, "power-spherical": [6 * seconds] * 3}
        times["one torch op"] = [0.5 * seconds] * 3
        rows += acceptance.rows_of(case, times, case.bytes_moved, 1e9)
    roofline = {"copy": 2e9, "write": 0.8e9, "read": 1e9}
    found = {row["target"]: row for row in acceptance.targets(roofline, rows)}
    half = found["log_prob forward: of copy bandwidth"]
    assert (half["measured"], half["met"]) == (pytest.approx(0.5), False)
    written = found["rsample forward: of write bandwidth"]
    assert (written["measured"], written["met"]) == (pytest.approx(0.625), True)
    assert found["rsample forward: torch.randn takes so many times ours"]["met"] is False
    assert found["log_prob forward: power-spherical over ours"]["measured"] == pytest.approx(6)
    assert found["rsample backward: of copy bandwidth"]["met"] is None
    assert torch.cuda.is_available() or len(found) > 10

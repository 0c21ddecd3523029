"""benchmarks/gpu_acceptance.py: a rehearsal on a stub of CUDA, and what may go wrong on a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import stubbed_cuda
import torch
from cases import needs_kernels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = ["build", "timing", "tests", "memcheck", "racecheck", "ncu"]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def session(folder: Path) -> Any:
    from gpu_acceptance import Session
    from gpu_results import Results

    return Session(folder, Results(folder / "gpu.json"), rehearsal=False)


@pytest.mark.slow
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


# The rehearsal


@pytest.mark.slow
@needs_kernels
def test_rehearsal(tmp_path: Path) -> None:
    """The whole script and all that it starts, on the stub, without git and from any folder."""
    site, out = tmp_path / "site", tmp_path / "out"
    site.mkdir()
    tests = str(Path(__file__).parents[1])
    install = f"import sys; sys.path.append({tests!r}); import stubbed_cuda; stubbed_cuda.install()"
    (site / "sitecustomize.py").write_text(install)
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_acceptance.py"), "out", "--rehearsal"],
        env={**os.environ, "PYTHONPATH": str(site), "PATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # since every test of tests/cuda is skipped
    results = json.loads((out / "stub-of-a-gpu.json").read_text())
    assert (results["machine"], results["commit"]) == (stubbed_cuda.NAME, "unknown")
    assert (out / "timing.log").exists()
    assert list(results["parts"]) == PARTS
    assert results["tests"]["skipped"] > 100, (out / "tests.log").read_text()[-2000:]
    assert results["tests"]["error"] == "pytest ended with 0"
    assert (results["errors"], results["running"]) == ({}, None)
    ours = {(r["work"], r["dtype"]) for r in results["rows"] if r["peer"] == "ours"}
    once = ["log_prob forward", "log_prob forward + backward", "rsample forward"]
    once += ["rsample forward + backward", "loss forward + backward", "rsample backward"]
    assert {(work, dtype) for work in once for dtype in ("float32", "bfloat16")} <= ours
    assert len([work for work, _ in ours if work.endswith("graph")]) == 3
    assert {row["seconds"] for row in results["rows"] if "graph" not in row["work"]} == {1e-3}
    unmeasured = [r["target"] for r in results["targets"] if r["measured"] is None]
    assert all("compiled" in target for target in unmeasured), unmeasured
    assert "failed: tests" in done.stdout


@needs_kernels
@pytest.mark.parametrize("family", range(2))
@pytest.mark.parametrize("vectors", [torch.float32, torch.bfloat16], ids=str)
def test_every_op_is_launched(family: int, vectors: torch.dtype) -> None:
    """What compute-sanitizer and ncu look at, here by the kernels of the CPU."""
    import gpu_launches

    runs = gpu_launches.launches(5, 7, family, vectors, "cpu")
    sources = (BENCHMARKS.parent / "csrc" / "cuda").glob("*.cu")
    assert set(runs) == set(re.findall(r'\.op\("(\w+)"', "".join(s.read_text() for s in sources)))
    for run in runs.values():
        run()


# What may go wrong


def test_all_parts_together_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the parts move: each takes all that it may and 5 s to be stopped."""
    import gpu_acceptance
    from gpu_results import Budget

    now, order = [0.0], []

    def hang(name: str) -> Any:
        def part(session: Any, seconds: float) -> dict[str, Any]:
            on_file = json.loads(session.results.file.read_text())["parts"] if order else {}
            assert list(on_file) == order  # what came before is on the disk
            order.append(name)
            now[0] += seconds + 5
            raise RuntimeError("it hung")

        return part

    assert list(gpu_acceptance.PARTS) == PARTS
    parts = {n: (most, hang(n)) for n, (most, _) in gpu_acceptance.PARTS.items() if n != "build"}
    parts = {
        "build": (gpu_acceptance.PARTS["build"][0], lambda s, seconds: _build(seconds)),
        **parts,
    }

    def _build(seconds: float) -> dict[str, Any]:
        order.append("build")
        now[0] += seconds
        return {}

    monkeypatch.setattr(gpu_acceptance, "PARTS", parts)
    here = session(tmp_path)
    gpu_acceptance.run_parts(here, Budget(gpu_acceptance.SECONDS, lambda: now[0]))
    assert now[0] < 8 * 60
    assert order[:2] == ["build", "timing"]
    found = json.loads(here.results.file.read_text())["parts"]
    assert found["timing"]["error"] == "RuntimeError: it hung"
    assert found["ncu"]["skipped"] == "no time was left"


def test_without_kernels_nothing_else_is_tried(tmp_path: Path, monkeypatch) -> None:
    import gpu_acceptance
    from gpu_results import Budget

    monkeypatch.setattr(gpu_acceptance, "run_bounded", lambda *_, **__: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    here = session(tmp_path)
    gpu_acceptance.run_parts(here, Budget(100))
    parts = here.results.data["parts"]
    assert parts["build"]["error"] == "2"
    assert {parts[name]["skipped"] for name in PARTS[1:]} == {"there are no kernels"}


def test_build_is_for_the_architecture_of_the_card(tmp_path: Path, monkeypatch) -> None:
    import gpu_acceptance

    seen: dict[str, str] = {}

    def run(command: Any, log: Any, seconds: float, environ: dict[str, str]) -> str:
        seen.update(environ)
        return "stopped"

    monkeypatch.setattr(gpu_acceptance, "run_bounded", run)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert gpu_acceptance.build(session(tmp_path), 1) == {"error": "stopped"}
    assert seen == {"POWERSPHERICAL_CUDA": "1", "POWERSPHERICAL_CUDA_ARCHS": "90"}


FAILING = """
import json, os, pathlib, sys, time
file = pathlib.Path(sys.argv[1])
data = json.loads(file.read_text())
def save(): file.write_text(json.dumps(data))
for step in ("good", "crash", "hang", "lost", "last"):
    if step in data["done"] or step in data["errors"]: continue
    print("begins", step, flush=True)
    data["running"] = step; save()
    if step == "crash": os.abort()
    if step == "hang": time.sleep(60)
    if step == "lost":
        data["errors"][step] = "RuntimeError: CUDA error"
        data["running"] = None; save(); sys.exit(3)
    data["done"].append(step); data["rows"].append({"step": step}); data["running"] = None; save()
"""


def test_a_step_that_fails_takes_no_other_with_it(tmp_path: Path, monkeypatch) -> None:
    """Neither one that ends the process, nor one that hangs, nor one that loses the GPU."""
    import gpu_acceptance

    (tmp_path / "gpu_timing.py").write_text(FAILING)
    monkeypatch.setattr(gpu_acceptance, "HERE", tmp_path)
    monkeypatch.setattr(gpu_acceptance, "IDLE", 1)
    here = session(tmp_path)
    outcome = gpu_acceptance.time_everything(here, 30)
    data = json.loads(here.results.file.read_text())
    assert data["done"] == ["good", "last"]
    assert [row["step"] for row in data["rows"]] == ["good", "last"]
    assert data["errors"] == {
        "crash": "the process ended: -6",
        "hang": "the process ended: stopped: no progress in 1 s",
        "lost": "RuntimeError: CUDA error",
    }
    assert outcome["statuses"] == [-6, "stopped: no progress in 1 s", 3, 0]
    assert outcome["error"] == "3 steps failed"
    assert here.log("timing").read_text().count("begins") == 5


def test_timing_that_cannot_begin_is_not_tried_for_ever(tmp_path: Path, monkeypatch) -> None:
    import gpu_acceptance

    (tmp_path / "gpu_timing.py").write_text("raise SystemExit('no CUDA kernels')")
    monkeypatch.setattr(gpu_acceptance, "HERE", tmp_path)
    outcome = gpu_acceptance.time_everything(session(tmp_path), 30)
    assert outcome["statuses"] == [1]
    assert outcome["error"] == "0 steps failed"


def test_error_of_a_step_is_on_file_beside_the_rows(tmp_path: Path) -> None:
    import gpu_timing

    results = session(tmp_path).results
    results.data = {"rows": [], "done": [], "errors": {}}

    def fail() -> Any:
        assert json.loads(results.file.read_text())["running"] == "bad"
        raise RuntimeError("out of memory")

    gpu_timing.run_step(results, "good", lambda: [{"seconds": 1}])
    gpu_timing.run_step(results, "bad", fail)
    data = json.loads(results.file.read_text())
    assert (data["rows"], data["done"], data["running"]) == ([{"seconds": 1}], ["good"], None)
    assert data["errors"] == {"bad": "RuntimeError: out of memory"}


def test_a_peer_may_fail_but_not_ours() -> None:
    import gpu_timing

    def fail() -> Any:
        raise RuntimeError("not on this GPU")

    assert list(gpu_timing.without_failures({"ours": int, "peer": fail}, 1)) == ["ours"]
    with pytest.raises(RuntimeError, match="not on this GPU"):
        gpu_timing.without_failures({"ours": fail, "peer": int}, 1)


def test_a_program_is_stopped_with_its_children_and_its_log_is_kept(tmp_path: Path) -> None:
    from gpu_results import run_bounded

    log, pid = tmp_path / "log", tmp_path / "pid"
    code = "import subprocess, sys, pathlib; print('so far')\n"
    code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    code += f"pathlib.Path({str(pid)!r}).write_text(str(child.pid)); child.wait()"
    begin = time.monotonic()
    assert run_bounded([sys.executable, "-c", code], log, 1.5) == "stopped after 2 s"
    assert time.monotonic() - begin < 10
    assert log.read_text() == "so far\n"
    time.sleep(0.2)
    state = Path(f"/proc/{pid.read_text()}/stat")
    assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    assert run_bounded([sys.executable, "-c", "raise SystemExit(4)"], log, 20) == 4


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("==== 12 passed, 3 skipped in 4.5s ====", 0, {"passed": 12, "skipped": 3}),
        ("=== 2 failed, 9 passed in 4s ===", 1, {"failed": 2, "passed": 9}),
        ("=== 9 skipped in 4s ===", 0, {"skipped": 9, "error": "pytest ended with 0"}),
        ("a PASSED [ 1%]\nb FAILED [ 2%]\nc", "stopped", {"failed": 1, "passed": 1}),
        ("Segmentation fault", -11, {}),
    ],
)
def test_what_the_tests_said(tmp_path: Path, monkeypatch, text: str, status: Any, expected) -> None:
    import gpu_acceptance

    here = session(tmp_path)
    here.log("tests").write_text(text)
    monkeypatch.setattr(gpu_acceptance, "run_bounded", lambda *_: status)
    found = gpu_acceptance.test(here, 10)
    assert expected.items() <= found.items()
    assert ("error" in found) == (status != 0 or "passed" not in text)


@pytest.mark.parametrize("name", ["memcheck", "racecheck", "ncu"])
def test_a_tool_that_is_absent_is_skipped_with_the_reason(name, tmp_path, monkeypatch) -> None:
    import gpu_acceptance

    monkeypatch.setattr(gpu_acceptance, "find_tool", lambda _: None)
    tool = "ncu" if name == "ncu" else "compute-sanitizer"
    part = gpu_acceptance.PARTS[name][1]
    assert part(session(tmp_path), 1) == {"skipped": f"no {tool} here"}


@pytest.mark.parametrize("name", ["memcheck", "racecheck", "ncu"])
def test_what_a_tool_is_given(name, tmp_path, monkeypatch) -> None:
    """A tool that prints its arguments, and finds an error."""
    import gpu_acceptance

    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    tool.chmod(0o755)
    monkeypatch.setattr(gpu_acceptance, "find_tool", lambda _: str(tool))
    here = session(tmp_path)
    assert gpu_acceptance.PARTS[name][1](here, 20) == {"error": "1"}
    wanted = "--clock-control none" if name == "ncu" else f"--tool {name} --error-exitcode 1"
    log = here.log(name).read_text()
    assert wanted in log
    assert "gpu_launches.py" in log


def test_targets() -> None:
    """From times that are made up: half the copy bandwidth, and peers that take 6 times as long."""
    import gpu_targets
    import gpu_timing
    from work import Case

    rows = []
    for quantity, backward in [("log_prob", False), ("log_prob", True), ("rsample", False)]:
        for dtype in (torch.bfloat16, torch.float32):
            case = Case(quantity, backward, 1000, 10, dtype=dtype, device="cuda")
            seconds = case.bytes_moved / (1e9 if dtype == torch.float32 else 0.5e9)
            times = {"ours": [seconds] * 3, "power-spherical": [6 * seconds] * 3}
            times["one torch op"] = [0.5 * seconds] * 3
            rows += gpu_timing.rows_of(case, times, case.bytes_moved, 1e9)
    found = {row["target"]: row for row in gpu_targets.targets({"copy": 2e9}, rows)}
    half = found["log_prob forward: of copy bandwidth"]
    assert (half["measured"], half["met"]) == (pytest.approx(0.5), False)
    quarter = found["log_prob forward, bfloat16: of copy bandwidth"]
    assert (quarter["measured"], quarter["met"]) == (pytest.approx(0.25), None)
    assert found["rsample forward: torch.randn takes so many times ours"]["met"] is False
    assert found["log_prob forward: power-spherical over ours"]["measured"] == pytest.approx(6)
    assert found["rsample backward: of copy bandwidth"]["met"] is None
    unknown = gpu_targets.targets({"copy": None}, rows)
    assert unknown[0]["measured"] is None
    assert gpu_targets.line(half).startswith("MISSED log_prob forward")
